//! Where things lie in the Pod: absolute paths, and that no two items want the same one.
