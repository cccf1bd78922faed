//! Links `src/getrandom.c` into the simulation: what the standard library's hash maps are seeded with.

fn main() {
    println!("cargo::rerun-if-changed=src/getrandom.c");
    cc::Build::new()
        .file("src/getrandom.c")
        // Nothing refers to it strongly: the standard library looks for it weakly.
        .link_lib_modifier("+whole-archive")
        .compile("simulation_getrandom");
}
