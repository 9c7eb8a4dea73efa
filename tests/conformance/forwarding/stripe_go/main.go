// The official Stripe SDK for Go, unmodified but for the base URL: prints what each call answered.
// usage: stripe_go BASE_URL
package main

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"github.com/stripe/stripe-go/v82"
	"github.com/stripe/stripe-go/v82/client"
)

type line struct {
	Call   string `json:"call"`
	Status int    `json:"status"`
	Bytes  int    `json:"bytes"`
	Sha256 string `json:"sha256"`
}

func show(call string, response *stripe.APIResponse, err error) {
	var body []byte
	status := 0
	var failure *stripe.Error
	switch {
	case errors.As(err, &failure) && failure.LastResponse != nil:
		body, status = failure.LastResponse.RawJSON, failure.LastResponse.StatusCode
	case err != nil:
		fmt.Fprintln(os.Stderr, call, err)
		os.Exit(1)
	case response != nil:
		body, status = response.RawJSON, response.StatusCode
	}
	text, _ := json.Marshal(line{call, status, len(body), fmt.Sprintf("%x", sha256.Sum256(body))})
	fmt.Println(string(text))
}

func main() {
	backend := stripe.GetBackendWithConfig(stripe.APIBackend, &stripe.BackendConfig{
		URL:               stripe.String(os.Args[1]),
		MaxNetworkRetries: stripe.Int64(0),
		LeveledLogger:     &stripe.LeveledLogger{Level: stripe.LevelNull},
	})
	sc := client.New("sk_test_123", &stripe.Backends{API: backend, Connect: backend, Uploads: backend})

	create := &stripe.PaymentIntentParams{
		Amount: stripe.Int64(2000), Currency: stripe.String("usd"), PaymentMethod: stripe.String("pm_card_visa"),
		Confirm: stripe.Bool(true), PaymentMethodTypes: stripe.StringSlice([]string{"card"}),
	}
	create.AddMetadata("order_id", "6735")
	create.SetIdempotencyKey("conformance-1")
	intent, err := sc.PaymentIntents.New(create)
	show("payment_intents.create", intent.LastResponse, err)
	retrieve := &stripe.PaymentIntentParams{}
	retrieve.AddExpand("payment_method")
	intent, err = sc.PaymentIntents.Get("pi_123", retrieve)
	show("payment_intents.retrieve", intent.LastResponse, err)
	intent, err = sc.PaymentIntents.Capture("pi_123", &stripe.PaymentIntentCaptureParams{AmountToCapture: stripe.Int64(750)})
	show("payment_intents.capture", intent.LastResponse, err)
	intent, err = sc.PaymentIntents.Cancel("pi_123", nil)
	show("payment_intents.cancel", intent.LastResponse, err)
	charge, err := sc.Charges.New(&stripe.ChargeParams{Amount: stripe.Int64(5000), Currency: stripe.String("usd"), Source: &stripe.PaymentSourceSourceParams{Token: stripe.String("tok_visa")}})
	show("charges.create", charge.LastResponse, err)
	charge, err = sc.Charges.Get("ch_123", nil)
	show("charges.retrieve", charge.LastResponse, err)
	refund, err := sc.Refunds.New(&stripe.RefundParams{PaymentIntent: stripe.String("pi_123"), Amount: stripe.Int64(500)})
	show("refunds.create", refund.LastResponse, err)
	refund, err = sc.Refunds.Get("re_123", nil)
	show("refunds.retrieve", refund.LastResponse, err)
	customer, err := sc.Customers.New(&stripe.CustomerParams{Email: stripe.String("jenny@example.com"), Address: &stripe.AddressParams{City: stripe.String("Köln")}})
	show("customers.create", customer.LastResponse, err)
	customer, err = sc.Customers.Del("cus_123", nil)
	show("customers.delete", customer.LastResponse, err)
	balance, err := sc.Balance.Get(nil)
	show("balance.retrieve", balance.LastResponse, err)
	_, err = sc.PaymentIntents.New(&stripe.PaymentIntentParams{Currency: stripe.String("usd")})
	show("error.missing_parameter", nil, err)
}
