//! The helper process of the node on its own, for this crate's tests. The product's binary
//! calls the same function first thing in its `main`.

use std::process::ExitCode;

fn main() -> ExitCode {
    kubeopencode_embedded::node::sandbox::helper_main().unwrap_or(ExitCode::FAILURE)
}
