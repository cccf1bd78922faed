//! What the engine is told about the world: the Job and the Pod of a Run, reduced to what a decision needs.
//!
//! `JobView::of` and `PodView::of` read the real objects; they are the only place that knows where Kubernetes keeps
//! these facts. The operator fills an [`Observation`]; absence in it has been confirmed by the API server itself, never
//! only by a cache.
