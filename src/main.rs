//! The `sentinel` binary: allocator, exit codes, and the way into the library.

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> std::process::ExitCode {
    sentinel::cli::main()
}
