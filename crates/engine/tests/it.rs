//! The engine as the operator uses it: resources as YAML in, Jobs, steps and sentences out.

#[cfg(test)]
mod it {
    mod decide;
    mod examples;
    mod fixture;
    mod lower;
    mod observe;
    mod render;
    mod world;
}
