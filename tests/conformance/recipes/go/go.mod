module sentinel.test/recipes

go 1.23

require (
	github.com/razorpay/razorpay-go v1.3.3
	github.com/stripe/stripe-go/v82 v82.5.1
)
