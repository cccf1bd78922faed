//! Integration tests of the operator: the real one against the embedded cluster, with its Job controller and garbage
//! collector, and a stand-in for the kubelet that a test tells what to do.

#[cfg(test)]
mod it {
    mod clock;
    mod cost;
    mod crash;
    mod election;
    mod failures;
    mod faults;
    mod kubelet;
    mod leader;
    mod life;
    mod observed;
    mod outage;
    mod queue;
    mod refused;
    mod scope;
    mod stop;
    mod time;
    mod waiting;
    mod world;
}
