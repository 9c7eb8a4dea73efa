//! `sentinel env`: the exact lines that point an official SDK at this sidecar.
//!
//! Many SDKs have no option for a base URL, or ignore a path prefix; each recipe is what works with that SDK, on the
//! gateway's own port. A pair without a known recipe is an error that lists what there is: a guess would send live
//! payments past the sidecar without anybody noticing.

use clap::ValueEnum;

/// Gateways with official SDKs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Gateway {
    /// Stripe, port 8081 by default.
    Stripe,
    /// PayPal, port 8082 by default.
    Paypal,
    /// Braintree, port 8083 by default.
    Braintree,
    /// Square, port 8084 by default.
    Square,
    /// Razorpay, port 8085 by default.
    Razorpay,
    /// Adyen, port 8086 by default.
    Adyen,
}

/// Languages with an official SDK of some gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Language {
    /// Python.
    Python,
    /// Node.js.
    Node,
    /// Go.
    Go,
    /// Java.
    Java,
    /// Ruby.
    Ruby,
    /// PHP.
    Php,
    /// .NET.
    Dotnet,
}

/// Arguments of `sentinel env`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The gateway whose SDK the application uses.
    pub gateway: Gateway,
    /// The application's language.
    #[arg(long, short)]
    pub lang: Language,
    /// Where the application reaches Sentinel.
    #[arg(long, default_value = "127.0.0.1")]
    pub host: String,
    /// The gateway's listener; 8081 to 8086 in the order stripe, paypal, braintree, square, razorpay, adyen.
    #[arg(long)]
    pub port: Option<u16>,
}

/// There is no recipe for the pair.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no recipe is known for {gateway} in {language}. {gateway} has: {known}")]
pub struct NoRecipe {
    gateway: String,
    language: String,
    known: String,
}

impl Gateway {
    fn default_port(self) -> u16 {
        match self {
            Self::Stripe => 8081,
            Self::Paypal => 8082,
            Self::Braintree => 8083,
            Self::Square => 8084,
            Self::Razorpay => 8085,
            Self::Adyen => 8086,
        }
    }
}

fn name(value: &impl ValueEnum) -> String {
    value
        .to_possible_value()
        .map(|value| value.get_name().to_owned())
        .unwrap_or_default()
}

/// The lines to print.
///
/// # Errors
/// When there is no recipe for the pair; the error lists the languages that have one.
pub fn run(args: &Args) -> Result<String, NoRecipe> {
    let port = args.port.unwrap_or(args.gateway.default_port());
    let Some(recipe) = recipe(args.gateway, args.lang) else {
        let known: Vec<String> = Language::value_variants()
            .iter()
            .filter(|lang| recipe(args.gateway, **lang).is_some())
            .map(name)
            .collect();
        return Err(NoRecipe {
            gateway: name(&args.gateway),
            language: name(&args.lang),
            known: known.join(", "),
        });
    };
    // An IPv6 address is bracketed in a URL and bare as a host.
    let bare = args.host.trim_start_matches('[').trim_end_matches(']');
    let url_host = if bare.contains(':') {
        format!("[{bare}]")
    } else {
        bare.to_owned()
    };
    let base = format!("http://{url_host}:{port}");
    Ok(recipe
        .replace("{base}", &base)
        .replace("{host}", bare)
        .replace("{port}", &port.to_string()))
}

/// `{base}`, `{host}` and `{port}` are filled in.
fn recipe(gateway: Gateway, language: Language) -> Option<&'static str> {
    use Gateway as G;
    use Language as L;
    Some(match (gateway, language) {
        (G::Stripe, L::Python) => {
            r#"# stripe (module-level calls: stripe.api_base = "{base}")
client = stripe.StripeClient(secret_key, base_addresses={"api": "{base}"})
"#
        }
        (G::Stripe, L::Node) => {
            "// stripe\nconst stripe = new Stripe(secretKey, { host: '{host}', port: {port}, protocol: 'http' });\n"
        }
        (G::Stripe, L::Go) => {
            r#"// stripe-go
stripe.SetBackend(stripe.APIBackend, stripe.GetBackendWithConfig(
	stripe.APIBackend,
	&stripe.BackendConfig{URL: stripe.String("{base}")},
))
"#
        }
        (G::Stripe, L::Java) => {
            r#"// stripe-java
StripeClient client = StripeClient.builder().setApiKey(secretKey).setApiBase("{base}").build();
"#
        }
        (G::Stripe, L::Ruby) => "# stripe-ruby\nStripe.api_base = '{base}'\n",
        (G::Stripe, L::Php) => {
            "// stripe-php\n$stripe = new \\Stripe\\StripeClient(['api_key' => $secretKey, 'api_base' => '{base}']);\n"
        }
        (G::Stripe, L::Dotnet) => "// Stripe.net\nvar client = new StripeClient(apiKey, apiBase: \"{base}\");\n",

        (G::Paypal, L::Python) => {
            r#"# paypal-server-sdk has no option for the base URL: replace it before building the client.
from paypalserversdk.configuration import Configuration, Environment, Server
Configuration.environments[Environment.SANDBOX][Server.DEFAULT] = "{base}"
"#
        }
        (G::Paypal, L::Node) => {
            r"// @paypal/paypal-server-sdk has no option for the base URL: send its requests here.
const http = require('node:http');
const client = new Client({
  // ...your credentials and environment...
  unstable_httpClientOptions: {
    transport: {
      request: (options, callback) =>
        http.request(
          { ...options, protocol: 'http:', hostname: '{host}', host: '{host}', port: {port}, agent: undefined },
          callback,
        ),
    },
  },
});
"
        }

        (G::Braintree, L::Python) => {
            r#"# braintree
environment = braintree.environment.Environment(
    "sentinel", "{host}", "{port}", "{base}", False, None, "{host}", "{port}"
)
# gateway = braintree.BraintreeGateway(braintree.Configuration(environment=environment, ...))
"#
        }
        (G::Braintree, L::Node) => {
            r"// braintree
const SentinelEnvironment = braintree.Environment.Sandbox.constructor;
const environment = new SentinelEnvironment('{host}', '{port}', '{base}', false, '{host}', '{port}');
// const gateway = new braintree.BraintreeGateway({ environment, merchantId, publicKey, privateKey });
"
        }
        (G::Braintree, L::Java) => {
            r#"// braintree-java
Environment environment = new Environment("{base}", "{base}", new String[] {}, "sentinel", "{base}/graphql");
"#
        }
        (G::Braintree, L::Ruby) => {
            "# braintree-ruby: set GATEWAY_HOST={host} and GATEWAY_PORT={port} in the environment\nconfig.environment = :development\n"
        }
        (G::Braintree, L::Php) => {
            "// braintree-php: set GATEWAY_BASE_URL={base} and GATEWAY_PORT={port} in the environment\n$config['environment'] = 'development';\n"
        }
        (G::Braintree, L::Dotnet) => {
            "// Braintree: set GATEWAY_HOST={host} and GATEWAY_PORT={port} in the environment\nEnvironment = Braintree.Environment.DEVELOPMENT,\n"
        }

        (G::Square, L::Python) => "# squareup\nclient = Square(token=token, base_url=\"{base}\")\n",
        (G::Square, L::Node) => "// square\nconst client = new SquareClient({ token, baseUrl: '{base}' });\n",
        (G::Square, L::Go) => {
            "// square-go-sdk\nsquare := client.NewClient(option.WithBaseURL(\"{base}\"), option.WithToken(token))\n"
        }
        (G::Square, L::Ruby) => {
            "# square.rb 43 and later (before: custom_url with environment: 'custom')\nclient = Square::Client.new(token: token, base_url: '{base}')\n"
        }
        (G::Square, L::Php) => {
            "// square 41 and later (before: customUrl with environment 'custom')\n$client = new \\Square\\SquareClient(token: $token, options: ['baseUrl' => '{base}']);\n"
        }
        (G::Square, L::Dotnet) => {
            "// Square 41 and later\nvar client = new SquareClient(token, clientOptions: new ClientOptions { BaseUrl = \"{base}\" });\n"
        }
        (G::Square, L::Java) => {
            "// square\nSquareClient client = SquareClient.builder().token(token).url(\"{base}\").build();\n"
        }

        (G::Razorpay, L::Python) => {
            "# razorpay\nclient = razorpay.Client(auth=(key_id, key_secret), base_url=\"{base}\")\n"
        }
        (G::Razorpay, L::Node) => {
            r"// razorpay has no option for the base URL: replace it after construction.
const rzp = new Razorpay({ key_id, key_secret });
rzp.api.rq.defaults.baseURL = '{base}';
"
        }
        (G::Razorpay, L::Go) => {
            r#"// razorpay-go: after NewClient, which overwrites it; all clients of a process share it.
client := razorpay.NewClient(keyID, keySecret)
razorpay.Request.BaseURL = "{base}"
"#
        }
        (G::Razorpay, L::Ruby) => {
            r"# razorpay has no option for the base URL: replace its constant before the first call.
uri = Razorpay::BASE_URI.sub('https://api.razorpay.com', '{base}')
Razorpay.send(:remove_const, :BASE_URI)
Razorpay.const_set(:BASE_URI, uri)
"
        }
        (G::Razorpay, L::Php) => {
            r"// razorpay: all clients of a process share it.
$api = new \Razorpay\Api\Api($keyId, $keySecret);
$api->setBaseUrl(str_replace('https://api.razorpay.com', '{base}', \Razorpay\Api\Api::getBaseUrl()));
"
        }

        (G::Adyen, L::Python) => {
            r#"# Adyen: each service has its own base URL; set those that you use.
ady.checkout.payments_api.baseUrl = "{base}/v72"
ady.checkout.modifications_api.baseUrl = "{base}/v72"
ady.checkout.recurring_api.baseUrl = "{base}/v72"
"#
        }
        (G::Adyen, L::Node) => {
            r"// @adyen/api-library speaks https only: this takes Sentinel's TLS listener (`sentinel ca`), and --port must name it.
// Start node with NODE_EXTRA_CA_CERTS=/path/to/ca.pem. Keep the service object: every access to CheckoutAPI makes a new one.
const payments = new PaymentsApi(client);
payments.baseUrl = 'https://{host}:{port}/v72';
const modifications = new ModificationsApi(client);
modifications.baseUrl = 'https://{host}:{port}/v72';
"
        }
        (G::Adyen, L::Go) => {
            r#"// adyen-go-api-library: after NewClient, which overwrites what the configuration said.
client := adyen.NewClient(config)
client.GetConfig().CheckoutEndpoint = "{base}/v71"
"#
        }
        (G::Adyen, L::Ruby) => {
            "# adyen-ruby-api-library\nclient = Adyen::Client.new(api_key: api_key, env: :mock, mock_service_url_base: '{base}')\n"
        }
        (G::Adyen, L::Php) => {
            r"// adyen/php-api-library has no option for the base URL: each service asks this method for its own.
class SentinelPaymentsApi extends \Adyen\Service\Checkout\PaymentsApi
{
    public function createBaseUrl(string $url): string
    {
        return str_replace('https://checkout-test.adyen.com', '{base}', $url);
    }
}
$payments = new SentinelPaymentsApi($client);
"
        }
        (G::Adyen, L::Java) => {
            r#"// adyen-java-api-library
PaymentsApi payments = new PaymentsApi(client, "{base}/v72");
ModificationsApi modifications = new ModificationsApi(client, "{base}/v72");
"#
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(gateway: Gateway, lang: Language) -> Args {
        Args {
            gateway,
            lang,
            host: "127.0.0.1".to_owned(),
            port: None,
        }
    }

    #[test]
    fn every_gateway_has_python_and_node() {
        for gateway in Gateway::value_variants() {
            for lang in [Language::Python, Language::Node] {
                let text = run(&args(*gateway, lang)).unwrap();
                let port = gateway.default_port().to_string();
                assert!(text.contains("127.0.0.1") && text.contains(&port), "{text}");
                assert!(
                    !["{base}", "{host}", "{port}"].iter().any(|hole| text.contains(hole)),
                    "{text}"
                );
            }
        }
    }

    #[test]
    fn an_unknown_pair_lists_what_there_is() {
        let error = run(&args(Gateway::Razorpay, Language::Java)).unwrap_err();
        assert_eq!(
            error.to_string(),
            "no recipe is known for razorpay in java. razorpay has: python, node, go, ruby, php"
        );
    }

    #[test]
    fn host_and_port_are_taken_over_and_version_6_is_bracketed_in_urls_only() {
        let args = Args {
            host: "::1".to_owned(),
            port: Some(9000),
            ..args(Gateway::Braintree, Language::Python)
        };
        let text = run(&args).unwrap();
        assert!(text.contains(r#""::1", "9000", "http://[::1]:9000""#), "{text}");
    }
}
