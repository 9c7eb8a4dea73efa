"""The official Python SDKs of PayPal, Braintree, Square, Razorpay and Adyen, each pointed at the given port.

usage: others_python.py PAYPAL BRAINTREE SQUARE RAZORPAY ADYEN   (ports; the order of Sentinel's own listeners)
"""

import sys

paypal_port, braintree_port, square_port, razorpay_port, adyen_port = sys.argv[1:6]


def paypal():
    from paypalserversdk.configuration import Configuration, Environment, Server
    from paypalserversdk.http.auth.o_auth_2 import ClientCredentialsAuthCredentials
    from paypalserversdk.models.amount_with_breakdown import AmountWithBreakdown
    from paypalserversdk.models.checkout_payment_intent import CheckoutPaymentIntent
    from paypalserversdk.models.order_request import OrderRequest
    from paypalserversdk.models.purchase_unit_request import PurchaseUnitRequest
    from paypalserversdk.paypal_serversdk_client import PaypalServersdkClient

    Configuration.environments[Environment.SANDBOX][Server.DEFAULT] = f"http://127.0.0.1:{paypal_port}"
    client = PaypalServersdkClient(client_credentials_auth_credentials=ClientCredentialsAuthCredentials("id", "secret"))
    answer = client.orders.create_order({
        "body": OrderRequest(intent=CheckoutPaymentIntent.CAPTURE, purchase_units=[
            PurchaseUnitRequest(amount=AmountWithBreakdown(currency_code="USD", value="20.00"))]),
        "paypal_request_id": "conformance-1", "prefer": "return=representation"})
    assert answer.body.id == "5O190127TN364715T"


def braintree():
    import braintree as bt

    environment = bt.Environment("sentinel", "127.0.0.1", braintree_port, "http://auth", False, None, "127.0.0.1", braintree_port)
    gateway = bt.BraintreeGateway(bt.Configuration(environment, merchant_id="m1", public_key="pub", private_key="priv"))
    answer = gateway.transaction.sale({"amount": "10.00", "payment_method_nonce": "fake-valid-nonce", "options": {"submit_for_settlement": True}})
    assert answer.is_success and answer.transaction.id == "bt1"


def square():
    from square import Square

    client = Square(base_url=f"http://127.0.0.1:{square_port}", token="token")
    answer = client.payments.create(source_id="cnon:card-nonce-ok", idempotency_key="conformance-1", amount_money={"amount": 100, "currency": "USD"})
    assert answer.payment.id == "sq_1"


def razorpay():
    import razorpay as rz

    client = rz.Client(auth=("rzp_test_1", "secret"), base_url=f"http://127.0.0.1:{razorpay_port}")
    answer = client.order.create({"amount": 50000, "currency": "INR", "receipt": "r1"})
    assert answer["id"] == "order_DBJOWzybf0sJbb"


def adyen():
    import Adyen

    client = Adyen.Adyen(xapikey="key", platform="test")
    client.checkout.payments_api.baseUrl = f"http://127.0.0.1:{adyen_port}/v72"
    answer = client.checkout.payments_api.payments({
        "amount": {"currency": "EUR", "value": 1000}, "reference": "order-123", "merchantAccount": "AcmeECOM",
        "returnUrl": "https://shop.example/return",
        "paymentMethod": {"type": "scheme", "storedPaymentMethodId": "M5N7TQ4TG5PFWR50"}}, idempotency_key="conformance-1")
    assert answer.message["resultCode"] == "Authorised"


for run in (paypal, braintree, square, razorpay, adyen):
    run()
    print(f"{run.__name__}: the SDK accepts the answer")
