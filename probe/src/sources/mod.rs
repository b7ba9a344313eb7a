//! The only place that reads the machine otherwise. Every reader takes a root folder, so that a test hands it one.
