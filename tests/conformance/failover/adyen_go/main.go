// The official Adyen SDK for Go, one operation at a time: usage: adyen_failover_go BASE REFERENCE CASE (see run.py)
//
// The Go module proxy does not have the SDK; run.py builds this against a checkout of it.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/adyen/adyen-go-api-library/v21/src/adyen"
	"github.com/adyen/adyen-go-api-library/v21/src/checkout"
	"github.com/adyen/adyen-go-api-library/v21/src/common"
)

const account = "AcmeECOM"

var (
	prefix string
	api    *checkout.APIClient
	wanted struct {
		Currency      string
		Mandate, Card bool
		DeclineAmount int64 `json:"decline_amount"`
		Number        string
		Holder, Night string
		Only          string
	}
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

func amount(value int64) checkout.Amount {
	return checkout.Amount{Currency: wanted.Currency, Value: value}
}

// paying says by what is paid, and who starts it.
func paying(request *checkout.PaymentRequest, good bool) {
	card := checkout.CardDetails{Type: common.PtrString("scheme")}
	if wanted.Card {
		number, holder := "4242424242424242", "J. Smith"
		if !good {
			number, holder = wanted.Number, wanted.Holder
		}
		card.Number, card.HolderName = &number, &holder
		card.ExpiryMonth, card.ExpiryYear, card.Cvc = common.PtrString("03"), common.PtrString("2030"), common.PtrString("737")
	} else {
		stored, shopper := "8415698462516992", "shopper-1"
		if !good {
			stored, shopper = "DECLINED00000012", "shopper-2"
		}
		card.StoredPaymentMethodId, request.ShopperReference = &stored, &shopper
		interaction, model := "Ecommerce", "CardOnFile"
		if wanted.Mandate {
			interaction, model = "ContAuth", "UnscheduledCardOnFile"
			request.ShopperEmail, request.TelephoneNumber = common.PtrString("a@example.com"), common.PtrString("9000090000")
		}
		request.ShopperInteraction, request.RecurringProcessingModel = &interaction, &model
	}
	request.PaymentMethod = checkout.CardDetailsAsCheckoutPaymentMethod(&card)
}

// decided asks again under the same key while the outcome is being found out.
func decided(request checkout.PaymentRequest) (checkout.PaymentResponse, error) {
	input := api.PaymentsApi.PaymentsInput().IdempotencyKey(request.Reference).PaymentRequest(request)
	for patience := time.Now().Add(60 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		paid, _, err := api.PaymentsApi.Payments(context.Background(), input)
		var refusal common.APIError
		doubt := err == nil && paid.GetResultCode() == "Received" ||
			errors.As(err, &refusal) && (refusal.Code == "704" || refusal.Code == "903")
		if !doubt || time.Now().After(patience) {
			return paid, err
		}
	}
}

func pay(name string, manual, good bool, value int64, result string) (string, error) {
	request := checkout.PaymentRequest{
		Amount: amount(value), Reference: prefix + "-" + name, MerchantAccount: account, ReturnUrl: "https://shop.example/return",
	}
	paying(&request, good)
	if manual {
		request.AdditionalData = &map[string]string{"manualCapture": "true"}
	} else {
		request.CaptureDelayHours = common.PtrInt32(0)
	}
	paid, err := decided(request)
	if err != nil {
		return "", err
	}
	told := paid.GetResultCode() == result && paid.GetMerchantReference() == request.Reference
	if told && result == "Refused" {
		told = paid.GetRefusalReasonCode() != "" && paid.GetRefusalReason() != ""
	}
	return paid.GetPspReference(), want(told, "payment", paid)
}

func sale(name string) (string, error) { return pay(name, false, true, 2000, "Authorised") }
func hold(name string) (string, error) { return pay(name, true, true, 2000, "Authorised") }

func capture(psp, key string, value int64) error {
	body := checkout.NewPaymentCaptureRequest(amount(value), account)
	body.SetReference(prefix + "-" + key + "-m")
	input := api.ModificationsApi.CaptureAuthorisedPaymentInput(psp).IdempotencyKey(prefix + "-" + key + "-m").PaymentCaptureRequest(*body)
	taken, _, err := api.ModificationsApi.CaptureAuthorisedPayment(context.Background(), input)
	if err != nil {
		return err
	}
	return want(taken.Status == "received" && taken.PaymentPspReference == psp && taken.PspReference != "", "capture", taken)
}

func refund(psp, key string, value int64) error {
	body := checkout.NewPaymentRefundRequest(amount(value), account)
	body.SetReference(prefix + "-" + key + "-m")
	input := api.ModificationsApi.RefundCapturedPaymentInput(psp).IdempotencyKey(prefix + "-" + key + "-m").PaymentRefundRequest(*body)
	back, _, err := api.ModificationsApi.RefundCapturedPayment(context.Background(), input)
	if err != nil {
		return err
	}
	return want(back.Status == "received" && back.PaymentPspReference == psp && back.PspReference != "", "refund", back)
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

func take(name string, values ...int64) error {
	psp, err := hold(name)
	for index, value := range values {
		if err == nil {
			err = capture(psp, fmt.Sprintf("%s-%d", name, index), value)
		}
	}
	return err
}

func giveBack(name string, value int64) error {
	psp, err := sale(name)
	if err == nil && value < 2000 {
		err = night()
	}
	if err == nil {
		err = refund(psp, name, value)
	}
	return err
}

var operations = []struct {
	name string
	told report
	run  func(name string) error
}{
	{"sale", report{"captured": 2000}, func(name string) error { _, err := sale(name); return err }},
	{"authorise", report{"held": 2000}, func(name string) error { _, err := hold(name); return err }},
	{"capture", report{"captured": 2000}, func(name string) error { return take(name, 2000) }},
	{"partial capture", report{"captured": 800}, func(name string) error { return take(name, 800) }},
	{"captures in parts", report{"captured": 1200, "held": 800}, func(name string) error { return take(name, 500, 700) }},
	{"refund", report{"captured": 2000, "refunded": 2000}, func(name string) error { return giveBack(name, 2000) }},
	{"partial refund", report{"captured": 2000, "refunded": 500}, func(name string) error { return giveBack(name, 500) }},
	{"void", report{}, func(name string) error {
		psp, err := hold(name)
		if err != nil {
			return err
		}
		body := checkout.NewPaymentCancelRequest(account)
		body.SetReference(prefix + "-" + name + "-m")
		input := api.ModificationsApi.CancelAuthorisedPaymentByPspReferenceInput(psp).IdempotencyKey(prefix + "-" + name + "-m").PaymentCancelRequest(*body)
		gone, _, err := api.ModificationsApi.CancelAuthorisedPaymentByPspReference(context.Background(), input)
		if err != nil {
			return err
		}
		return want(gone.Status == "received" && gone.PaymentPspReference == psp, "void", gone)
	}},
	// Adyen has no call that shows a payment: the same request under the same key is how it is asked about.
	{"retrieve", report{"captured": 2000}, func(name string) error {
		paid, err := sale(name)
		if err != nil {
			return err
		}
		again, err := sale(name)
		if err != nil {
			return err
		}
		return want(paid == again, "retrieve", again)
	}},
	{"decline", report{}, func(name string) error {
		_, err := pay(name, false, false, wanted.DeclineAmount, "Refused")
		return err
	}},
	{"error", report{"held": 2000}, func(name string) error {
		psp, err := hold(name)
		if err != nil {
			return err
		}
		err = capture(psp, name, -1)
		var refusal common.APIError
		if errors.As(err, &refusal) && (refusal.Status == 400 || refusal.Status == 422) {
			return want(refusal.Code != "" && refusal.Message != "", "error", refusal)
		}
		if err == nil {
			err = errors.New("less than nothing was captured")
		}
		return err
	}},
}

func main() {
	prefix = os.Args[2]
	if err := json.Unmarshal([]byte(os.Args[3]), &wanted); err != nil {
		panic(err)
	}
	client := adyen.NewClient(&common.Config{ApiKey: "sandbox", Environment: common.TestEnv})
	// After NewClient, which overwrites what the configuration said.
	client.GetConfig().CheckoutEndpoint = os.Args[1] + "/v71"
	api = client.Checkout()
	for _, operation := range operations {
		if (wanted.Only == "") == (operation.name == "captures in parts") {
			continue
		}
		line := map[string]any{"operation": operation.name, "reference": prefix + "-" + operation.name}
		err := operation.run(operation.name)
		var refusal common.APIError
		switch {
		case err == nil:
			line["told"] = operation.told
		case errors.As(err, &refusal):
			line["refused"] = refusal.Code
			if refusal.Code == "" {
				line["refused"] = refusal.Err
			}
		default:
			line["failed"] = err.Error()
		}
		text, _ := json.Marshal(line)
		fmt.Println(string(text))
	}
}
