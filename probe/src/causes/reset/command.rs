//! Commands of names that come from files and could be anything: each word is quoted for a shell.

/// A command line of these words.
pub fn line(words: &[&str]) -> String {
    words.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" ")
}

/// `key=value` needs no quotes in the midst of a command, and reads better without.
fn quoted(word: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./=".contains(&byte);
    if !word.is_empty() && !word.starts_with('=') && word.bytes().all(is_plain) {
        return word.to_owned();
    }
    shlex::try_quote(word).map_or_else(|_| "?".to_owned(), Into::into)
}

/// A command line that ends with the name of an object, which is not to be taken for an option.
pub fn of_object(words: &[&str], name: &str) -> String {
    let mut all = words.to_vec();
    if name.starts_with('-') {
        all.push("--");
    }
    all.push(name);
    line(&all)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn plain_names_stay_as_they_are() {
        assert_eq!(of_object(&["calicoctl", "delete", "node"], "paas-187"), "calicoctl delete node paas-187");
        assert_eq!(line(&["spec.nodeName=a;reboot"]), "'spec.nodeName=a;reboot'");
    }

    proptest! {
        #[test]
        fn a_name_is_one_word_and_no_option(name in "[^\0]{1,40}") {
            let words = shlex::split(&of_object(&["kubectl", "delete", "node"], &name)).unwrap();
            prop_assert_eq!(words.last(), Some(&name));
            prop_assert_eq!(words.len(), 4 + usize::from(name.starts_with('-')));
        }
    }
}
