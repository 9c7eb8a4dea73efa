//! The command line. One file a subcommand where there is more to it than a call.

pub mod ca;
pub mod certify;
pub mod check;
pub mod demo;
pub mod env;
pub mod operator;
pub mod payments;
pub mod sandbox;
pub mod tap;
pub mod top;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand};

use crate::app::{self, AppError};

/// A sidecar that stands between an application and its payment gateway.
#[derive(Debug, Parser)]
#[command(name = "sentinel", version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the sidecar.
    Run(Config),
    /// Validate a configuration: prints every problem and exits with 78, or prints what it means and exits with 0.
    Check(check::Args),
    /// Print the JSON Schema of the configuration, for editors.
    Schema,
    /// Ask a running sidecar whether it is ready: exits with 0 or 1.
    Health {
        /// The admin listener.
        #[arg(long, default_value = "127.0.0.1:9901")]
        admin: std::net::SocketAddr,
    },
    /// Show gateways, breakers, rates and what is in doubt, live.
    Top(top::Args),
    /// Show requests as they pass, without their secrets.
    Tap(tap::Args),
    /// Look into payments, and say what became of one that Sentinel cannot bring to its end.
    Payments(payments::Args),
    /// Print the lines that point an official SDK at this sidecar.
    Env(env::Args),
    /// Make a local certificate authority and a certificate for localhost, and say how to trust it.
    Ca(ca::Args),
    /// Try at test accounts what fences rest on: prints what holds, and keeps a certificate that routes count on.
    Certify(certify::Args),
    /// Show it: simulated gateways, a shop, an outage of Stripe, and an audit of all books. Exits with 0 when they agree.
    Demo(demo::Args),
    /// Run simulators of the gateways, with faults by script and books that can be audited.
    Sandbox(sandbox::Args),
    /// Print a completion script.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
}

#[derive(Debug, clap::Args)]
struct Config {
    /// The configuration file.
    #[arg(long, short, env = "SENTINEL_CONFIG", default_value = "config/sentinel.yaml")]
    config: PathBuf,
}

/// sysexits.h: the command line is wrong.
const USAGE: u8 = 64;
/// sysexits.h: a defect, or the system refused.
const SOFTWARE: u8 = 70;
/// sysexits.h: the configuration is wrong.
const CONFIG: u8 = 78;

/// Runs what the arguments say.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { USAGE } else { 0 });
        }
    };
    match cli.command {
        Command::Run(config) => match app::run(&config.config) {
            Ok(()) => ExitCode::SUCCESS,
            Err(AppError::Config(problems)) => {
                check::print_problems(&problems);
                ExitCode::from(CONFIG)
            }
            Err(error) => {
                eprintln!("sentinel: {error}");
                ExitCode::from(SOFTWARE)
            }
        },
        Command::Check(args) => check::run(&args),
        Command::Schema => {
            println!("{:#}", crate::config::schema::published());
            ExitCode::SUCCESS
        }
        Command::Health { admin } => health(admin),
        Command::Top(args) => answer(top::run(&args)),
        Command::Tap(args) => answer(tap::run(&args)),
        Command::Payments(args) => match payments::run(&args) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("sentinel: {error}");
                ExitCode::FAILURE
            }
        },
        Command::Env(args) => match env::run(&args) {
            Ok(text) => {
                print!("{text}");
                ExitCode::SUCCESS
            }
            Err(error) => {
                eprintln!("sentinel: {error}");
                ExitCode::from(USAGE)
            }
        },
        Command::Ca(args) => match ca::run(&args) {
            Ok((_, text)) => {
                print!("{text}");
                ExitCode::SUCCESS
            }
            Err(error) => {
                eprintln!("sentinel: {error}");
                ExitCode::from(SOFTWARE)
            }
        },
        Command::Certify(args) => certify::run(&args),
        Command::Demo(args) => match demo::run(&args) {
            Ok(true) => ExitCode::SUCCESS,
            Ok(false) => ExitCode::FAILURE,
            Err(error) => {
                eprintln!("sentinel: {error}");
                ExitCode::from(SOFTWARE)
            }
        },
        Command::Sandbox(args) => match sandbox::run(&args) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("sentinel: {error}");
                ExitCode::from(if error.is_usage() { USAGE } else { SOFTWARE })
            }
        },
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "sentinel", &mut std::io::stdout());
            ExitCode::SUCCESS
        }
    }
}

fn answer(result: Result<(), operator::AccessError>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("sentinel: {error}");
            ExitCode::FAILURE
        }
    }
}

fn health(admin: std::net::SocketAddr) -> ExitCode {
    use std::io::{Read as _, Write as _};
    let ask = || -> std::io::Result<bool> {
        let mut stream = std::net::TcpStream::connect_timeout(&admin, std::time::Duration::from_secs(2))?;
        stream.set_read_timeout(Some(std::time::Duration::from_secs(2)))?;
        stream.write_all(b"GET /ready HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
        let mut answer = [0u8; 15];
        stream.read_exact(&mut answer)?;
        Ok(answer.starts_with(b"HTTP/1.1 200"))
    };
    match ask() {
        Ok(true) => {
            println!("ready");
            ExitCode::SUCCESS
        }
        Ok(false) => {
            println!("not ready");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("sentinel: {admin} does not answer: {error}");
            ExitCode::FAILURE
        }
    }
}
