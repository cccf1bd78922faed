//! decide: from what a Run is, what is remembered of it and what the world looks like, to the next step.
//!
//! One call gives one [`Step`]. The operator performs it, observes again and asks again, until the step is to rest. So
//! every order of writes is visible here, and a crash between any two of them is a state that `decide` is asked about.
//!
//! # Never twice
//!
//! 1. The Job is created *suspended*. Its name follows from the owner's UID and the attempt; a Job of that name with
//!    another owner is an error. A suspended Job has no Pod: creating it twice, or late, by an operator that has lost
//!    its lease, runs nothing.
//! 2. The Job's UID is recorded in the owner's status, with a resourceVersion precondition. This is the commit point:
//!    of all operators that try, one succeeds, and it happens once for an attempt.
//! 3. Only the Job with the recorded UID is released (`suspend: false`), with its UID and resourceVersion as
//!    preconditions. A Job of ours with another UID never runs and is deleted.
//! 4. From then on a missing Job is lost, not forgotten: the Run fails, it is never started again.
