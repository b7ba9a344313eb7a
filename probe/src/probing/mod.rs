//! Probes sent from a pod or the host, and followed.
