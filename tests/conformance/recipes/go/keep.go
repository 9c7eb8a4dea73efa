// Package main names what the recipes need, so that the module keeps it.
package main

import (
	_ "github.com/razorpay/razorpay-go"
	_ "github.com/stripe/stripe-go/v82"
)
