//! Which caliprobe this is.

use serde::Serialize;

use super::document::SCHEMA_VERSION;

/// What `caliprobe version` prints.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct VersionDocument {
    pub schema_version: u32,
    pub command: &'static str,
    pub version: &'static str,
    /// The commit that a release was built from; absent in other builds, which may be of changed files.
    pub commit: Option<&'static str>,
    /// What it was built for, such as `x86_64-unknown-linux-musl`.
    pub target: &'static str,
    /// The release of the kernel that runs here.
    pub kernel: String,
    pub schemas: Schemas,
}

/// The versions of what is kept in files or passed on to other programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Schemas {
    /// Of the documents that commands and the local API print.
    pub documents: u32,
    /// Of snapshots.
    pub snapshots: u32,
    /// Of plans to clean up.
    pub plans: u32,
    /// Of the journal that a clean-up keeps.
    pub journals: u32,
}

impl VersionDocument {
    /// Of this program, on this kernel.
    pub fn new(kernel: String, schemas: Schemas) -> Self {
        Self {
            schema_version: SCHEMA_VERSION,
            command: "version",
            version: env!("CARGO_PKG_VERSION"),
            commit: option_env!("CALIPROBE_COMMIT").filter(|commit| !commit.is_empty()),
            target: env!("CALIPROBE_TARGET"),
            kernel,
            schemas,
        }
    }

    /// One line.
    pub fn quiet(&self) -> String {
        format!("caliprobe {}", self.version)
    }

    /// The whole of it.
    pub fn text(&self) -> String {
        let commit = self.commit.unwrap_or("not known: this is no release build");
        let Schemas { documents, snapshots, plans, journals } = self.schemas;
        format!(
            "caliprobe {}\ncommit  {commit}\ntarget  {}\nkernel  {}\n\
             schema  documents {documents}, snapshots {snapshots}, plans {plans}, journals {journals}\n",
            self.version, self.target, self.kernel
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_this_is_is_said_in_text_and_as_a_document() {
        let schemas = Schemas { documents: 1, snapshots: 2, plans: 3, journals: 4 };
        let document = VersionDocument {
            version: "0.1.0",
            commit: Some("a50c54b2f0"),
            target: "x86_64-unknown-linux-musl",
            ..VersionDocument::new("6.12.4".to_owned(), schemas)
        };
        insta::assert_snapshot!(document.text());
        insta::assert_json_snapshot!(document);
        let unknown = VersionDocument { commit: None, ..document };
        assert!(unknown.text().contains("commit  not known"));
    }
}
