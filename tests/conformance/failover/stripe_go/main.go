// The official Stripe SDK for Go, one operation at a time: usage: stripe_failover_go BASE REFERENCE CASE (see run.py)
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"time"

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
	wanted struct {
		Currency      string
		Mandate       bool
		DeclineAmount int64 `json:"decline_amount"`
		Code, Night   string
		Only          string
	}
)

const parts = "captures in parts"
const good, empty = "pm_card_visa", "pm_card_chargeDeclinedInsufficientFunds"

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

// decided asks again under the same key while the outcome is being found out.
func decided(params *stripe.PaymentIntentParams) (*stripe.PaymentIntent, error) {
	for patience := time.Now().Add(60 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		paid, err := sc.PaymentIntents.New(params)
		var refusal *stripe.Error
		doubt := errors.As(err, &refusal) && refusal.LastResponse != nil &&
			strings.HasPrefix(refusal.LastResponse.Header.Get("Sentinel-Outcome"), "unknown")
		if !doubt || time.Now().After(patience) {
			return paid, err
		}
	}
}

func pay(name string, capture stripe.PaymentIntentCaptureMethod, method string, amount int64) (*stripe.PaymentIntent, error) {
	params := &stripe.PaymentIntentParams{
		Amount: stripe.Int64(amount), Currency: stripe.String(strings.ToLower(wanted.Currency)), PaymentMethod: stripe.String(method), Confirm: stripe.Bool(true),
		PaymentMethodTypes: stripe.StringSlice([]string{"card"}), CaptureMethod: stripe.String(string(capture)),
	}
	params.AddMetadata("order_id", prefix+"-"+name)
	if wanted.Mandate {
		params.OffSession = stripe.Bool(true)
		params.ReceiptEmail = stripe.String("a@example.com")
		params.Shipping = &stripe.ShippingDetailsParams{
			Name: stripe.String("A"), Phone: stripe.String("9000090000"), Address: &stripe.AddressParams{Line1: stripe.String("1 Street")},
		}
	}
	params.SetIdempotencyKey(prefix + "-" + name)
	paid, err := decided(params)
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
	return pay(name, automatic, good, 2000)
}
func hold(name string) (*stripe.PaymentIntent, error) { return pay(name, manual, good, 2000) }

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

// night comes now where the taker gives back a part only of what is settled, which happens at night.
func night() error {
	if wanted.Night == "" {
		return nil
	}
	answer, err := http.Post(wanted.Night, "application/json", strings.NewReader(`{"settle": "now"}`))
	if err == nil {
		err = answer.Body.Close()
	}
	return err
}

func giveBack(name string, amount int64) error {
	paid, err := sale(name)
	if err != nil {
		return err
	}
	if amount < 2000 {
		if err := night(); err != nil {
			return err
		}
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

var operations = []struct {
	name string
	run  func() (report, error)
}{
	{"sale", func() (report, error) {
		paid, err := sale("sale")
		if err != nil {
			return nil, err
		}
		return report{"captured": 2000}, want(paid.AmountReceived == 2000, "sale", paid)
	}},
	{"create only", func() (report, error) {
		params := &stripe.PaymentIntentParams{Amount: stripe.Int64(2000), Currency: stripe.String("eur"), PaymentMethodTypes: stripe.StringSlice([]string{"card"})}
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
	{parts, func() (report, error) {
		held, err := hold(parts)
		for _, amount := range []int64{500, 700} {
			if err != nil {
				return nil, err
			}
			params := &stripe.PaymentIntentCaptureParams{AmountToCapture: stripe.Int64(amount), FinalCapture: stripe.Bool(false)}
			params.SetIdempotencyKey(fmt.Sprintf("%s-%s-%d", prefix, parts, amount))
			var taken *stripe.PaymentIntent
			if taken, err = sc.PaymentIntents.Capture(held.ID, params); err == nil {
				more := taken.Status == stripe.PaymentIntentStatusRequiresCapture || taken.Status == stripe.PaymentIntentStatusProcessing
				err = want(more, "part", taken)
			}
		}
		return report{"captured": 1200, "held": 800}, err
	}},
	{parts, func() (report, error) {
		held, err := hold(parts)
		for _, amount := range []int64{500, 700} {
			if err != nil {
				return nil, err
			}
			params := &stripe.PaymentIntentCaptureParams{AmountToCapture: stripe.Int64(amount), FinalCapture: stripe.Bool(false)}
			params.SetIdempotencyKey(fmt.Sprintf("%s-%s-%d", prefix, parts, amount))
			var taken *stripe.PaymentIntent
			if taken, err = sc.PaymentIntents.Capture(held.ID, params); err == nil {
				more := taken.Status == stripe.PaymentIntentStatusRequiresCapture || taken.Status == stripe.PaymentIntentStatusProcessing
				err = want(more, "part", taken)
			}
		}
		return report{"captured": 1200, "held": 800}, err
	}},
	{"refund", func() (report, error) { return report{"captured": 2000, "refunded": 2000}, giveBack("refund", 2000) }},
	{"partial refund", func() (report, error) {
		return report{"captured": 2000, "refunded": 500}, giveBack("partial refund", 500)
	}},
	{"void", func() (report, error) {
		held, err := hold("void")
		if err != nil {
			return nil, err
		}
		gone, err := sc.PaymentIntents.Cancel(held.ID, nil)
		if err != nil {
			return nil, err
		}
		return report{}, want(gone.Status == stripe.PaymentIntentStatusCanceled, "void", gone)
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
		_, err := pay("decline", automatic, empty, wanted.DeclineAmount)
		var refusal *stripe.Error
		if errors.As(err, &refusal) && refusal.Type == stripe.ErrorTypeCard {
			return report{}, want(string(refusal.DeclineCode) == wanted.Code, "decline", refusal.DeclineCode)
		}
		if err == nil {
			err = errors.New("a card without money was charged")
		}
		return nil, err
	}},
	{"error", func() (report, error) {
		paid, err := sale("error")
		if err != nil {
			return nil, err
		}
		_, err = sc.PaymentIntents.Capture(paid.ID, nil)
		var refusal *stripe.Error
		if errors.As(err, &refusal) && refusal.Code == stripe.ErrorCodePaymentIntentUnexpectedState {
			return report{"captured": 2000}, want(refusal.Type == stripe.ErrorTypeInvalidRequest, "error", refusal.Type)
		}
		if err == nil {
			err = errors.New("a captured payment was captured again")
		}
		return nil, err
	}},
}

// reason says why no other gateway was asked, or else what the error's code is, or the parameter that it is about.
func reason(refusal *stripe.Error) string {
	if refusal.LastResponse != nil {
		if _, unavailable, said := strings.Cut(refusal.LastResponse.Header.Get("Sentinel-Failover"), "reason="); said {
			return unavailable
		}
	}
	if refusal.Code != "" {
		return string(refusal.Code)
	}
	if refusal.Param != "" {
		return refusal.Param
	}
	return string(refusal.Type)
}

func main() {
	prefix = os.Args[2]
	if err := json.Unmarshal([]byte(os.Args[3]), &wanted); err != nil {
		panic(err)
	}
	backend := stripe.GetBackendWithConfig(stripe.APIBackend, &stripe.BackendConfig{
		URL: stripe.String(os.Args[1]), MaxNetworkRetries: stripe.Int64(0), LeveledLogger: &stripe.LeveledLogger{Level: stripe.LevelNull},
	})
	sc = client.New("sk_test_sandbox", &stripe.Backends{API: backend, Connect: backend, Uploads: backend})
	for _, operation := range operations {
		if (wanted.Only == "") == (operation.name == parts) {
			continue
		}
		line := map[string]any{"operation": operation.name, "reference": prefix + "-" + operation.name}
		told, err := operation.run()
		var refusal *stripe.Error
		switch {
		case err == nil:
			line["told"] = told
		case errors.As(err, &refusal):
			line["refused"] = reason(refusal)
		default:
			line["failed"] = err.Error()
		}
		text, _ := json.Marshal(line)
		fmt.Println(string(text))
	}
}
