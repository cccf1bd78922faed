//! render: from a Run to the ConfigMaps and the Job that Kubernetes is given. Deterministic: the same Run gives the same bytes.
