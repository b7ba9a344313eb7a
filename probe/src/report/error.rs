//! An error as a document, for programs that asked for JSON.

use serde_json::json;

use super::document::SCHEMA_VERSION;

/// One line of JSON that holds nothing but the error.
pub fn document(message: &str) -> String {
    json!({ "schema_version": SCHEMA_VERSION, "version": env!("CARGO_PKG_VERSION"), "error": { "message": message } })
        .to_string()
}
