//! Integration tests of the embedded cluster, one binary.

mod it {
    mod api;
    mod controllers;
    mod kinds;
    mod logs;
    mod node;
    mod sandbox;
    mod serve;
    mod store;
}
