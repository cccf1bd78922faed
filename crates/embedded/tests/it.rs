//! Integration tests of the embedded cluster, in one binary.

mod it {
    mod store;
}
