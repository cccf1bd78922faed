//! lower: the front ends, one for each API group. Each turns its own resource, with everything that it refers to, into
//! a [`Run`](crate::run::Run), and maps [`RunState`](crate::state::RunState) to and from its own status.
