//! Integration tests of the embedded cluster, in one binary.

mod it {
    mod logs;
    mod sandbox;
    mod store;
}
