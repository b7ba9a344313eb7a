//! The only place that names aya: programs loaded, attached and read.
