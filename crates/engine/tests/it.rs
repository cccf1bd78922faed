//! The engine as the operator uses it: resources as YAML in, Jobs, steps and sentences out.

#[cfg(test)]
mod it {
    mod attempts;
    mod dead_node;
    mod decide;
    mod deleted;
    mod examples;
    mod explain;
    mod fixture;
    mod limits;
    mod lower;
    mod moment;
    mod node_clock;
    mod observe;
    mod outcome;
    mod queue;
    mod refused;
    mod render;
    mod unended;
    mod world;
}
