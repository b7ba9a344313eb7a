//! Snapshots and plans as they may come: cut short, of another node, version or kernel, huge, nested deep, edited. Each
//! is refused with a sentence that names the file and what to do, exit code 2, and nothing on standard output.

use std::{
    fs::{self, File},
    path::Path,
    process::{Command, Output},
};

use caliprobe::{
    plan::{FORMAT_VERSION as PLAN_VERSION, Plan},
    sample::{FORMAT_VERSION, NodeIdentity, Route, Sample},
};

fn caliprobe(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_caliprobe"));
    command.args(arguments).env_remove("CALIPROBE_OUTPUT").env("NO_COLOR", "1");
    command.output().expect("it starts")
}

fn snapshot(node: &str, time: &str) -> Sample {
    Sample {
        format_version: FORMAT_VERSION,
        time: time.to_owned(),
        node: NodeIdentity {
            hostname: node.to_owned(),
            kernel: "6.12.4".to_owned(),
            boot_id: "b".to_owned(),
            ..NodeIdentity::default()
        },
        routes: vec![Route { table: 254, ..Route::default() }],
        ..Sample::default()
    }
}

fn plan(node: &str) -> Plan {
    Plan {
        format_version: PLAN_VERSION,
        time: "2018-06-27T08:12:13Z".to_owned(),
        node: node.to_owned(),
        boot_id: "b".to_owned(),
        network_namespace: 0,
        steps: Vec::new(),
        kept: Vec::new(),
    }
}

/// Files of one test.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a folder"))
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).display().to_string()
    }

    fn write(&self, name: &str, bytes: &[u8]) -> String {
        fs::write(self.0.path().join(name), bytes).expect("a file");
        self.path(name)
    }

    fn snapshot(&self, name: &str, sample: &Sample) -> String {
        self.write(name, &serde_json::to_vec(sample).expect("JSON"))
    }

    fn plan(&self, name: &str, plan: &Plan) -> String {
        self.write(name, &serde_json::to_vec(plan).expect("JSON"))
    }
}

/// Fails unless it was refused in one sentence with these words.
fn is_refused(arguments: &[&str], words: &[&str]) {
    let output = caliprobe(arguments);
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{arguments:?}: {complaint}");
    assert!(output.stdout.is_empty(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stdout));
    assert_eq!(complaint.trim_end().lines().count(), 1, "{arguments:?}: {complaint}");
    assert!(complaint.len() < 1000, "{} bytes", complaint.len());
    for word in words {
        assert!(complaint.contains(word), "{arguments:?}: {word}: {complaint}");
    }
}

#[test]
fn a_snapshot_that_is_none_is_refused() {
    let folder = Folder::new();
    let good = serde_json::to_vec(&snapshot("paas-188", "2018-06-27T08:12:13Z")).expect("JSON");
    let text = String::from_utf8(good.clone()).expect("text");
    let deep = format!("{{\"links\":{}", "[".repeat(1_000_000));
    let newer = text.replacen("\"format_version\":1", "\"format_version\":99", 1);
    let route = text.replacen("\"table\":254", "\"table\":-1", 1);
    for (name, bytes, words) in [
        ("empty", &b""[..], "nothing recognised"),
        ("cut", &good[..good.len() / 2], "it is no sample of caliprobe"),
        ("deep", deep.as_bytes(), "it is no sample of caliprobe"),
        ("newer", newer.as_bytes(), "use a newer one"),
        ("edited", route.as_bytes(), "it is no sample of caliprobe"),
        ("binary", &[0xff; 4096], "nothing recognised"),
    ] {
        let file = folder.write(name, bytes);
        for command in [&["snapshot", "show", &file][..], &["verify", &file]] {
            is_refused(command, &[name, words]);
        }
    }
    let pasted = folder.write("pasted", b"default via 10.0.0.1 dev eth0\n10.0.0.0/24 dev eth0 scope link\n");
    is_refused(&["verify", &pasted], &["is no snapshot but pasted outputs"]);
    is_refused(&["verify", &folder.path("missing")], &["missing", "No such file"]);
    is_refused(&["verify", &folder.0.path().display().to_string()], &["it is no sample of caliprobe"]);
}

#[test]
fn a_gigabyte_is_refused() {
    let folder = Folder::new();
    let path = folder.path("huge");
    File::create(Path::new(&path)).and_then(|file| file.set_len(1 << 30)).expect("a sparse file");
    is_refused(&["verify", &path], &["the input is larger than 256 MiB"]);
    is_refused(&["cleanup", "apply", &path, "--yes"], &["is larger than any plan"]);
}

#[test]
fn two_snapshots_that_do_not_belong_together_are_refused() {
    let folder = Folder::new();
    let (early, late) = ("2018-06-27T08:12:13Z", "2018-06-27T09:12:13Z");
    let before = folder.snapshot("before", &snapshot("paas-188", early));
    let after = folder.snapshot("after", &snapshot("paas-188", late));
    let other = folder.snapshot("other", &snapshot("paas-187", late));
    is_refused(&["verify", &before, &other], &["the snapshot is of node paas-188, and this is paas-187"]);
    is_refused(&["verify", &after, &before], &["the wrong way round"]);
    let plan_of_other = folder.plan("plan", &plan("paas-187"));
    is_refused(&["verify", &before, &after, "--plan", &plan_of_other], &["the plan is of node paas-187"]);
    let of_other_boot = folder.plan("boot", &Plan { boot_id: "a".to_owned(), ..plan("paas-188") });
    is_refused(&["verify", &before, &after, "--plan", &of_other_boot], &["another boot of paas-188"]);
    is_refused(&["verify", &before, &after, "--plan", &before], &["is no plan of caliprobe"]);
}

#[test]
fn another_kernel_and_an_older_format_are_read_and_said() {
    let folder = Folder::new();
    let before = snapshot("paas-188", "2018-06-27T08:12:13Z");
    let mut older = serde_json::to_value(&before).expect("JSON");
    let fields = older.as_object_mut().expect("fields");
    // What later versions have added.
    for field in ["ledger", "echoes", "surroundings", "arp_watch", "queues", "control_plane"] {
        fields.remove(field).expect(field);
    }
    let before = folder.write("before", older.to_string().as_bytes());
    let mut after = snapshot("paas-188", "2018-06-27T09:12:13Z");
    after.node.kernel = "6.13.1".to_owned();
    after.node.boot_id = "c".to_owned();
    let after = folder.snapshot("after", &after);
    let output = caliprobe(&["verify", &before, &after]);
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(said.contains("it was Linux 6.12.4, and is 6.13.1"), "{said}");
    assert!(said.contains("the node was started anew between the two"), "{said}");
    assert!(said.contains("not seen: whether packets are lost"), "{said}");
}

#[test]
fn a_plan_that_was_edited_is_refused() {
    let folder = Folder::new();
    let text = serde_json::to_string(&plan("paas-188")).expect("JSON");
    for (name, text, words) in [
        ("newer", text.replace("\"format_version\":1", "\"format_version\":2"), "make it anew"),
        ("misspelt", text.replace("\"steps\"", "\"stpes\""), "unknown field"),
        ("added", text.replace("\"steps\":[]", "\"steps\":[],\"force\":true"), "unknown field"),
        ("cut", text[..text.len() / 2].to_owned(), "EOF"),
        ("deep", format!("{{\"format_version\":1,\"steps\":{}", "[".repeat(1_000_000)), "is no plan"),
        (
            "step",
            text.replace("\"steps\":[]", "\"steps\":[{\"action\":{\"do\":\"reboot\"}}]"),
            "unknown variant",
        ),
        ("empty", String::new(), "EOF"),
    ] {
        let file = folder.write(name, text.as_bytes());
        is_refused(&["cleanup", "apply", &file, "--yes"], &[name, words]);
    }
}
