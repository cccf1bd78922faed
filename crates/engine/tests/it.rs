//! The engine as the operator uses it: resources as YAML in, Jobs, steps and sentences out.

mod it {
    mod api;
    mod decide;
    mod examples;
    mod fixture;
    mod lower;
    mod observe;
    mod render;
    mod world;
}
