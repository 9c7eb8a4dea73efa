//! How the optimised binary is laid out in memory.
//!
//! The kernel maps a program's code in pieces of 64 KiB around every page that is run. What a start and a request run is
//! a tenth of the program, but lies scattered over all of it, so that nearly all of it became resident. `layout.ld` names
//! those functions, and the linker puts them beside each other; `benches/peers/run layout` writes it anew. Names that are
//! not there any more are passed over: an old list costs memory, and nothing else.
//!
//! Only where Rust links with its own copy of lld: GNU's linker takes minutes over such a script, others do not know it.

use std::env;
use std::path::Path;
use std::process::Command;

/// Whether the compiler brings the linker with it that it links with by default: those of distributions do not.
fn has_lld() -> Option<bool> {
    let printed = Command::new(env::var_os("RUSTC")?)
        .args(["--print", "sysroot"])
        .output()
        .ok()?;
    let root = String::from_utf8(printed.stdout).ok()?;
    let own = "lib/rustlib/x86_64-unknown-linux-gnu/bin/gcc-ld/ld.lld";
    Some(Path::new(root.trim_end()).join(own).exists())
}

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=layout.ld");
    let is = |name: &str, value: &str| env::var(name).is_ok_and(|found| found == value);
    let optimised = is("PROFILE", "release") && is("TARGET", "x86_64-unknown-linux-gnu");
    let flags = env::var("CARGO_ENCODED_RUSTFLAGS").unwrap_or_default();
    let chosen = env::var_os("RUSTC_LINKER").is_some() || flags.contains("link");
    if optimised
        && !chosen
        && has_lld() == Some(true)
        && let Ok(root) = env::var("CARGO_MANIFEST_DIR")
    {
        println!("cargo:rustc-link-arg-bin=sentinel=-Wl,-T,{root}/layout.ld");
    }
}
