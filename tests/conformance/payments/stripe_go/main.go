// The official Stripe SDK for Go: every payment operation, against whatever answers at BASE.
//
// usage: stripe_payments_go BASE REFERENCE
//
// Prints one line of JSON for each payment made, in cents, as the Python client does.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"github.com/stripe/stripe-go/v82"
	"github.com/stripe/stripe-go/v82/client"
)

var prefix string

func check(holds bool, what string, got any) {
	if !holds {
		text, _ := json.Marshal(got)
		fmt.Fprintf(os.Stderr, "%s: %s\n", what, text)
		os.Exit(1)
	}
}

func must[T any](value T, err error) T {
	check(err == nil, "no error was expected", fmt.Sprint(err))
	return value
}

func told(name string, what map[string]int64) {
	line := map[string]any{"reference": prefix + "-" + name}
	for key, value := range what {
		line[key] = value
	}
	text, _ := json.Marshal(line)
	fmt.Println(string(text))
}

func refused(err error, kind stripe.ErrorType, code stripe.ErrorCode, status int) *stripe.Error {
	var failure *stripe.Error
	check(errors.As(err, &failure), "an error of Stripe's was expected", fmt.Sprint(err))
	check(failure.Type == kind && failure.Code == code && failure.HTTPStatusCode == status, "another error was expected", failure)
	check(failure.RequestID != "", "a request id was expected", failure)
	return failure
}

func main() {
	base := os.Args[1]
	prefix = os.Args[2]
	sdk := func(key string) *client.API {
		backend := stripe.GetBackendWithConfig(stripe.APIBackend, &stripe.BackendConfig{
			URL: stripe.String(base), MaxNetworkRetries: stripe.Int64(0), LeveledLogger: &stripe.LeveledLogger{Level: stripe.LevelNull},
		})
		return client.New(key, &stripe.Backends{API: backend, Connect: backend, Uploads: backend})
	}
	sc := sdk("sk_test_sandbox")

	create := func(name string, method string, capture stripe.PaymentIntentCaptureMethod) *stripe.PaymentIntentParams {
		params := &stripe.PaymentIntentParams{
			Amount: stripe.Int64(2000), Currency: stripe.String("usd"), PaymentMethod: stripe.String(method), Confirm: stripe.Bool(true),
			PaymentMethodTypes: stripe.StringSlice([]string{"card"}), CaptureMethod: stripe.String(string(capture)),
		}
		params.AddMetadata("order_id", prefix+"-"+name)
		params.SetIdempotencyKey(prefix + "-" + name)
		return params
	}
	automatic, manual := stripe.PaymentIntentCaptureMethodAutomatic, stripe.PaymentIntentCaptureMethodManual
	pay := func(name string, capture stripe.PaymentIntentCaptureMethod) *stripe.PaymentIntent {
		return must(sc.PaymentIntents.New(create(name, "pm_card_visa", capture)))
	}
	refund := func(name string, params *stripe.RefundParams) (*stripe.Refund, error) {
		params.SetIdempotencyKey(prefix + "-" + name)
		return sc.Refunds.New(params)
	}

	sale := pay("sale", automatic)
	check(sale.Status == stripe.PaymentIntentStatusSucceeded && sale.AmountReceived == 2000, "sale", sale)
	again := pay("sale", automatic)
	check(again.ID == sale.ID && again.LastResponse.Header.Get("Idempotent-Replayed") == "true", "the same key is the same payment", again)
	other := create("sale", "pm_card_visa", automatic)
	other.Amount = stripe.Int64(2001)
	_, err := sc.PaymentIntents.New(other)
	refused(err, stripe.ErrorTypeIdempotency, "", 400)
	part := must(refund("r1", &stripe.RefundParams{PaymentIntent: stripe.String(sale.ID), Amount: stripe.Int64(500)}))
	check(part.Status == stripe.RefundStatusSucceeded && part.Amount == 500, "partial refund", part)
	rest := must(refund("r2", &stripe.RefundParams{PaymentIntent: stripe.String(sale.ID)}))
	check(must(sc.Refunds.Get(rest.ID, nil)).Amount == 1500, "the rest", rest)
	refunds := sc.Refunds.List(&stripe.RefundListParams{PaymentIntent: stripe.String(sale.ID)})
	count := 0
	for refunds.Next() {
		count++
	}
	check(count == 2 && refunds.Err() == nil, "list of refunds", count)
	charge := must(sc.Charges.Get(sale.LatestCharge.ID, nil))
	check(charge.Refunded && charge.AmountRefunded == 2000 && charge.PaymentMethodDetails.Card.Last4 == "4242", "charge", charge)
	_, err = refund("r3", &stripe.RefundParams{PaymentIntent: stripe.String(sale.ID)})
	refused(err, stripe.ErrorTypeInvalidRequest, stripe.ErrorCodeChargeAlreadyRefunded, 400)
	told("sale", map[string]int64{"captured": 2000, "refunded": 2000})

	held := pay("authorise", manual)
	check(held.Status == stripe.PaymentIntentStatusRequiresCapture && held.AmountCapturable == 2000, "authorise", held)
	told("authorise", map[string]int64{"held": 2000})

	taken := pay("capture", manual)
	taken = must(sc.PaymentIntents.Capture(taken.ID, &stripe.PaymentIntentCaptureParams{AmountToCapture: stripe.Int64(800)}))
	check(taken.AmountReceived == 800, "capture", taken)
	retrieve := &stripe.PaymentIntentParams{}
	retrieve.AddExpand("latest_charge")
	check(must(sc.PaymentIntents.Get(taken.ID, retrieve)).LatestCharge.AmountCaptured == 800, "expanded charge", taken)
	told("capture", map[string]int64{"captured": 800})

	voided := pay("void", manual)
	voided = must(sc.PaymentIntents.Cancel(voided.ID, nil))
	check(voided.Status == stripe.PaymentIntentStatusCanceled && voided.CanceledAt > 0, "void", voided)
	_, err = sc.PaymentIntents.Capture(voided.ID, nil)
	refused(err, stripe.ErrorTypeInvalidRequest, stripe.ErrorCodePaymentIntentUnexpectedState, 400)
	told("void", map[string]int64{"held": 0})

	later := &stripe.PaymentIntentParams{Amount: stripe.Int64(2000), Currency: stripe.String("usd"), PaymentMethodTypes: stripe.StringSlice([]string{"card"})}
	later.AddMetadata("order_id", prefix+"-confirm")
	intent := must(sc.PaymentIntents.New(later))
	_, err = sc.PaymentIntents.Confirm(intent.ID, &stripe.PaymentIntentConfirmParams{PaymentMethod: stripe.String("pm_card_visa_chargeDeclined")})
	failure := refused(err, stripe.ErrorTypeCard, stripe.ErrorCodeCardDeclined, 402)
	check(failure.DeclineCode == stripe.DeclineCodeGenericDecline && failure.PaymentIntent.ID == intent.ID, "decline", failure)
	intent = must(sc.PaymentIntents.Confirm(intent.ID, &stripe.PaymentIntentConfirmParams{PaymentMethod: stripe.String("pm_card_mastercard")}))
	check(intent.Status == stripe.PaymentIntentStatusSucceeded, "confirm", intent)
	told("confirm", map[string]int64{"captured": 2000})

	customer := must(sc.Customers.New(&stripe.CustomerParams{Email: stripe.String("jenny@example.com")}))
	method := must(sc.PaymentMethods.Attach("pm_card_visa", &stripe.PaymentMethodAttachParams{Customer: stripe.String(customer.ID)}))
	saved := create("saved", method.ID, automatic)
	saved.Customer, saved.OffSession = stripe.String(customer.ID), stripe.Bool(true)
	paid := must(sc.PaymentIntents.New(saved))
	check(paid.Customer.ID == customer.ID, "saved instrument", paid)
	list := sc.PaymentIntents.List(&stripe.PaymentIntentListParams{Customer: stripe.String(customer.ID)})
	check(list.Next() && list.PaymentIntent().ID == paid.ID, "list of intents", list.Err())
	told("saved", map[string]int64{"captured": 2000})

	_, err = sc.PaymentIntents.New(create("decline", "pm_card_chargeDeclinedInsufficientFunds", automatic))
	check(refused(err, stripe.ErrorTypeCard, stripe.ErrorCodeCardDeclined, 402).DeclineCode == stripe.DeclineCodeInsufficientFunds, "decline", err)
	told("decline", map[string]int64{"held": 0})

	legacy := &stripe.ChargeParams{Amount: stripe.Int64(1000), Currency: stripe.String("usd"), Capture: stripe.Bool(false),
		Source: &stripe.PaymentSourceSourceParams{Token: stripe.String("tok_visa")}}
	legacy.AddMetadata("order_id", prefix+"-charge")
	charge = must(sc.Charges.New(legacy))
	check(must(sc.Charges.Capture(charge.ID, &stripe.ChargeCaptureParams{Amount: stripe.Int64(400)})).AmountCaptured == 400, "charge", charge)
	told("charge", map[string]int64{"captured": 400})

	_, err = sc.PaymentIntents.New(&stripe.PaymentIntentParams{Currency: stripe.String("usd")})
	refused(err, stripe.ErrorTypeInvalidRequest, stripe.ErrorCodeParameterMissing, 400)
	_, err = sc.PaymentIntents.Get("pi_nobody", nil)
	refused(err, stripe.ErrorTypeInvalidRequest, stripe.ErrorCodeResourceMissing, 404)
	_, err = sdk("sk_test_wrong").Balance.Get(nil)
	refused(err, stripe.ErrorTypeInvalidRequest, "", 401)
	check(must(sc.Balance.Get(nil)).Object == "balance", "balance", nil)
}
