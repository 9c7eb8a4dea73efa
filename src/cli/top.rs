//! `sentinel top`: gateways, breakers, rates and what is in doubt, live. It asks the admin listener for what everybody may
//! ask, `/metrics`, `/breakers` and `/routes`, and reckons the rates itself: the sidecar does nothing for it that it does
//! not do for Prometheus.

pub mod sample;
pub mod view;

use std::io::{IsTerminal as _, Read as _, Write as _};
use std::time::Duration;

use rustix::termios::{self, LocalModes, OptionalActions, Termios};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use super::operator::{Access, AccessError, runtime};
use sample::Sample;
use view::View;

/// Arguments of `sentinel top`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    access: Access,
    /// Seconds between two looks, which is also what rates are reckoned over.
    #[arg(long, short, default_value_t = 1.0, value_parser = interval)]
    interval: f64,
    /// Look twice, print once, and end. So it does by itself where the output is no terminal.
    #[arg(long)]
    once: bool,
    /// Print JSON; only with --once.
    #[arg(long, requires = "once")]
    json: bool,
}

fn interval(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(seconds) if (0.1..=60.0).contains(&seconds) => Ok(seconds),
        _ => Err("write seconds between 0.1 and 60".into()),
    }
}

/// Shows until told to stop, or once.
///
/// # Errors
/// When the sidecar cannot be asked for the first time. Later it is shown as gone, and shown again when it comes back.
pub fn run(args: &Args) -> Result<(), AccessError> {
    let interval = Duration::from_secs_f64(args.interval);
    runtime()?.block_on(async {
        let first = Sample::take(&args.access).await?;
        if args.once || !std::io::stdout().is_terminal() {
            tokio::time::sleep(interval).await;
            let view = View::between(&first, &Sample::take(&args.access).await?);
            let text = if args.json {
                format!("{:#}\n", view.json())
            } else {
                view.lines(usize::MAX).join("\n") + "\n"
            };
            // Whoever reads this may have seen enough.
            let _ = std::io::stdout().write_all(text.as_bytes());
            return Ok(());
        }
        live(&args.access, first, interval).await
    })
}

async fn live(access: &Access, mut before: Sample, interval: Duration) -> Result<(), AccessError> {
    let _screen = Screen::open()?;
    let mut keys = keys();
    let mut resized = signal(SignalKind::window_change())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut looks = tokio::time::interval(interval);
    looks.tick().await;
    let mut shown = View::between(&before, &before).lines(usize::MAX);
    shown.push(String::new());
    shown.push("reckoning rates...".into());
    loop {
        draw(&shown)?;
        tokio::select! {
            _ = looks.tick() => match Sample::take(access).await {
                Ok(now) => {
                    shown = View::between(&before, &now).lines(usize::MAX);
                    before = now;
                }
                Err(error) => shown = vec![error.to_string(), "trying again; q quits".into()],
            },
            _ = resized.recv() => {}
            _ = interrupt.recv() => return Ok(()),
            _ = terminate.recv() => return Ok(()),
            key = keys.recv() => if matches!(key, Some(b'q' | b'Q' | 27) | None) {
                return Ok(());
            },
        }
    }
}

/// Bytes typed. A thread of its own, because a terminal cannot be read without blocking on every system.
fn keys() -> mpsc::Receiver<u8> {
    let (send, keys) = mpsc::channel(8);
    std::thread::spawn(move || {
        let mut key = [0];
        while std::io::stdin().read_exact(&mut key).is_ok() {
            if send.blocking_send(key[0]).is_err() {
                return;
            }
        }
        // Input that has ended says nothing: the output may still be watched.
        std::thread::park();
    });
    keys
}

/// The terminal's alternate screen, without cursor and echo; everything as before when dropped.
struct Screen {
    before: Option<Termios>,
}

impl Screen {
    fn open() -> std::io::Result<Self> {
        let before = termios::tcgetattr(std::io::stdin()).ok();
        if let Some(before) = &before {
            let mut quiet = before.clone();
            quiet.local_modes.remove(LocalModes::ICANON | LocalModes::ECHO);
            termios::tcsetattr(std::io::stdin(), OptionalActions::Now, &quiet)?;
        }
        std::io::stdout().write_all(b"\x1b[?1049h\x1b[?25l")?;
        Ok(Self { before })
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let mut out = std::io::stdout();
        let _ = out.write_all(b"\x1b[?25h\x1b[?1049l").and_then(|()| out.flush());
        if let Some(before) = &self.before {
            let _ = termios::tcsetattr(std::io::stdin(), OptionalActions::Now, before);
        }
    }
}

/// Draws over what was there: each line is cut to the width and cleared behind its end, so nothing flickers or wraps,
/// however the window was resized.
fn draw(lines: &[String]) -> std::io::Result<()> {
    let (width, height) = match termios::tcgetwinsize(std::io::stdout()) {
        Ok(size) if size.ws_col > 0 && size.ws_row > 0 => (usize::from(size.ws_col), usize::from(size.ws_row)),
        _ => (80, 24),
    };
    std::io::stdout().write_all(frame(lines, width, height).as_bytes())?;
    std::io::stdout().flush()
}

fn frame(lines: &[String], width: usize, height: usize) -> String {
    let mut frame = String::from("\x1b[H");
    let hidden = lines.len().saturating_sub(height);
    let fitting = if hidden > 0 { height - 1 } else { lines.len() };
    for (at, line) in lines.iter().take(fitting).enumerate() {
        if at > 0 {
            frame.push_str("\r\n");
        }
        frame.extend(line.chars().take(width));
        frame.push_str("\x1b[K");
    }
    if hidden > 0 {
        let more: String = format!("... {} more lines", hidden + 1).chars().take(width).collect();
        frame.push_str(&format!("\r\n{more}\x1b[K"));
    }
    frame.push_str("\x1b[J");
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_never_wraps_nor_scrolls_whatever_the_size() {
        let lines: Vec<String> = (0..30).map(|n| format!("{n:02} {}", "é".repeat(100))).collect();
        for (width, height) in [(80, 24), (10, 5), (200, 100), (1, 1), (40, 30)] {
            let drawn = frame(&lines, width, height);
            let plain = drawn.replace("\x1b[H", "").replace("\x1b[K", "").replace("\x1b[J", "");
            let rows: Vec<&str> = plain.split("\r\n").filter(|row| !row.is_empty()).collect();
            assert!(rows.len() <= height, "{width}x{height}: {}", rows.len());
            assert!(rows.iter().all(|row| row.chars().count() <= width), "{width}x{height}");
            if height < 30 {
                assert!(
                    rows.last().is_some_and(|last| "... 31 more".starts_with(&last[..1])),
                    "{rows:?}"
                );
            }
        }
    }
}
