// The official Stripe SDK for Go, one operation at a time: usage: stripe_failover_go BASE REFERENCE DECLINE_CODE
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"github.com/stripe/stripe-go/v82"
	"github.com/stripe/stripe-go/v82/client"
)

const (
	automatic = stripe.PaymentIntentCaptureMethodAutomatic
	manual    = stripe.PaymentIntentCaptureMethodManual
)

var (
	prefix string
	sc     *client.API
	good   = map[string]string{"sentinel_adyen": "shopper-1/8415698462516992", "sentinel_paypal": "8kk845"}
	empty  = map[string]string{"sentinel_adyen": "shopper-2/DECLINED00000012", "sentinel_paypal": "DECLINE-5120"}
)

// A report is what the SDK was told of a payment, in cents.
type report map[string]int64

// want is an error when an answer is not what it should be.
func want(holds bool, what string, got any) error {
	if holds {
		return nil
	}
	text, _ := json.Marshal(got)
	return fmt.Errorf("%s: %.300s", what, text)
}

func pay(name string, capture stripe.PaymentIntentCaptureMethod, method string, tokens map[string]string) (*stripe.PaymentIntent, error) {
	params := &stripe.PaymentIntentParams{
		Amount: stripe.Int64(2000), Currency: stripe.String("usd"), PaymentMethod: stripe.String(method), Confirm: stripe.Bool(true),
		PaymentMethodTypes: stripe.StringSlice([]string{"card"}), CaptureMethod: stripe.String(string(capture)),
	}
	params.AddMetadata("order_id", prefix+"-"+name)
	for key, token := range tokens {
		params.AddMetadata(key, token)
	}
	params.SetIdempotencyKey(prefix + "-" + name)
	paid, err := sc.PaymentIntents.New(params)
	if err != nil {
		return nil, err
	}
	status := stripe.PaymentIntentStatusSucceeded
	if capture == manual {
		status = stripe.PaymentIntentStatusRequiresCapture
	}
	return paid, want(paid.Status == status && paid.Metadata["order_id"] == prefix+"-"+name, "payment", paid)
}

func sale(name string) (*stripe.PaymentIntent, error) {
	return pay(name, automatic, "pm_card_visa", good)
}
func hold(name string) (*stripe.PaymentIntent, error) { return pay(name, manual, "pm_card_visa", good) }

func take(name string, amount int64) error {
	held, err := hold(name)
	if err != nil {
		return err
	}
	params := &stripe.PaymentIntentCaptureParams{}
	if amount < 2000 {
		params.AmountToCapture = stripe.Int64(amount)
	}
	params.SetIdempotencyKey(prefix + "-" + name + "-c")
	taken, err := sc.PaymentIntents.Capture(held.ID, params)
	if err != nil {
		return err
	}
	done := taken.Status == stripe.PaymentIntentStatusSucceeded && taken.AmountReceived == amount
	return want(done || taken.Status == stripe.PaymentIntentStatusProcessing, "capture", taken)
}

func giveBack(name string, amount int64) error {
	paid, err := sale(name)
	if err != nil {
		return err
	}
	params := &stripe.RefundParams{PaymentIntent: stripe.String(paid.ID)}
	if amount < 2000 {
		params.Amount = stripe.Int64(amount)
	}
	params.SetIdempotencyKey(prefix + "-" + name + "-r")
	back, err := sc.Refunds.New(params)
	if err != nil {
		return err
	}
	moved := back.Status == stripe.RefundStatusSucceeded || back.Status == stripe.RefundStatusPending
	return want(moved && back.Amount == amount, "refund", back)
}

// void holds and cancels, and gives the intent.
func void(name string) (*stripe.PaymentIntent, error) {
	held, err := hold(name)
	if err != nil {
		return nil, err
	}
	gone, err := sc.PaymentIntents.Cancel(held.ID, nil)
	if err != nil {
		return nil, err
	}
	return gone, want(gone.Status == stripe.PaymentIntentStatusCanceled, "void", gone)
}

var operations = []struct {
	name string
	run  func() (report, error)
}{
	{"create", func() (report, error) {
		paid, err := sale("create")
		if err != nil {
			return nil, err
		}
		return report{"captured": 2000}, want(paid.AmountReceived == 2000, "sale", paid)
	}},
	{"create only", func() (report, error) {
		params := &stripe.PaymentIntentParams{Amount: stripe.Int64(2000), Currency: stripe.String("usd"), PaymentMethodTypes: stripe.StringSlice([]string{"card"})}
		params.AddMetadata("order_id", prefix+"-create only")
		made, err := sc.PaymentIntents.New(params)
		if err != nil {
			return nil, err
		}
		return report{}, want(made.Status == stripe.PaymentIntentStatusRequiresPaymentMethod, "intent", made)
	}},
	{"authorise", func() (report, error) {
		_, err := hold("authorise")
		return report{"held": 2000}, err
	}},
	{"capture", func() (report, error) { return report{"captured": 2000}, take("capture", 2000) }},
	{"partial capture", func() (report, error) { return report{"captured": 800}, take("partial capture", 800) }},
	{"refund", func() (report, error) { return report{"captured": 2000, "refunded": 2000}, giveBack("refund", 2000) }},
	{"partial refund", func() (report, error) {
		return report{"captured": 2000, "refunded": 500}, giveBack("partial refund", 500)
	}},
	{"void", func() (report, error) {
		_, err := void("void")
		return report{}, err
	}},
	{"retrieve", func() (report, error) {
		paid, err := sale("retrieve")
		if err != nil {
			return nil, err
		}
		params := &stripe.PaymentIntentParams{}
		params.AddExpand("latest_charge")
		seen, err := sc.PaymentIntents.Get(paid.ID, params)
		if err != nil {
			return nil, err
		}
		same := seen.ID == paid.ID && seen.Status == stripe.PaymentIntentStatusSucceeded && seen.LatestCharge.AmountCaptured == 2000
		return report{"captured": 2000}, want(same, "retrieve", seen)
	}},
	{"list", func() (report, error) {
		paid, err := sale("list")
		if err != nil {
			return nil, err
		}
		found := false
		list := sc.PaymentIntents.List(&stripe.PaymentIntentListParams{})
		for list.Next() {
			found = found || list.PaymentIntent().ID == paid.ID
		}
		if list.Err() != nil {
			return nil, list.Err()
		}
		return report{"captured": 2000}, want(found, "the payment is not in the list", paid.ID)
	}},
	{"decline", func() (report, error) {
		_, err := pay("decline", automatic, "pm_card_chargeDeclinedInsufficientFunds", empty)
		var refusal *stripe.Error
		if errors.As(err, &refusal) && refusal.Type == stripe.ErrorTypeCard {
			return report{}, want(string(refusal.DeclineCode) == os.Args[3], "decline", refusal.DeclineCode)
		}
		if err == nil {
			err = errors.New("a card without money was charged")
		}
		return nil, err
	}},
	{"error", func() (report, error) {
		gone, err := void("error")
		if err != nil {
			return nil, err
		}
		_, err = sc.PaymentIntents.Capture(gone.ID, nil)
		var refusal *stripe.Error
		if errors.As(err, &refusal) && refusal.Code == stripe.ErrorCodePaymentIntentUnexpectedState {
			return report{}, want(refusal.Type == stripe.ErrorTypeInvalidRequest, "error", refusal.Type)
		}
		if err == nil {
			err = errors.New("a voided payment was captured")
		}
		return nil, err
	}},
}

func main() {
	prefix = os.Args[2]
	backend := stripe.GetBackendWithConfig(stripe.APIBackend, &stripe.BackendConfig{
		URL: stripe.String(os.Args[1]), MaxNetworkRetries: stripe.Int64(0), LeveledLogger: &stripe.LeveledLogger{Level: stripe.LevelNull},
	})
	sc = client.New("sk_test_sandbox", &stripe.Backends{API: backend, Connect: backend, Uploads: backend})
	for _, operation := range operations {
		line := map[string]any{"operation": operation.name, "reference": prefix + "-" + operation.name}
		told, err := operation.run()
		var refusal *stripe.Error
		switch {
		case err == nil:
			line["told"] = told
		case errors.As(err, &refusal):
			line["refused"] = string(refusal.Code)
			if refusal.Code == "" {
				line["refused"] = string(refusal.Type)
			}
		default:
			line["failed"] = err.Error()
		}
		text, _ := json.Marshal(line)
		fmt.Println(string(text))
	}
}
