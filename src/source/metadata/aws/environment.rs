//! The variables of the environment that AWS' own tools read.

use std::env;
use std::ffi::OsString;
use std::path::PathBuf;

use crate::error::BuildError;

/// The text of a setting, and the variable that it comes from.
pub(super) struct Stated {
    pub(super) text: String,
    pub(super) variable: Option<&'static str>,
}

impl Stated {
    /// In a setting.
    pub(super) fn set(text: String) -> Self {
        Self { text, variable: None }
    }

    /// In this variable. White space around it is cut off. `None` if the variable is missing or empty.
    ///
    /// # Errors
    /// The variable is not Unicode.
    pub(super) fn variable(field: &'static str, name: &'static str) -> Result<Option<Self>, BuildError> {
        read(field, name, env::var_os(name))
    }

    /// The setting, or else the first of these variables.
    pub(super) fn find(
        field: &'static str,
        setting: Option<String>,
        variables: &[&'static str],
    ) -> Result<Option<Self>, BuildError> {
        if let Some(text) = setting {
            return Ok(Some(Self::set(text)));
        }
        for name in variables {
            if let Some(found) = Self::variable(field, name)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// The error of this text. It names the variable.
    pub(super) fn refused(&self, error: BuildError) -> BuildError {
        match self.variable {
            Some(name) => error.of_variable(name),
            None => error,
        }
    }
}

fn read(
    field: &'static str,
    name: &'static str,
    value: Option<OsString>,
) -> Result<Option<Stated>, BuildError> {
    let Some(value) = value else { return Ok(None) };
    let Ok(text) = value.into_string() else {
        return Err(BuildError::new(field, "is missing, and its variable is not Unicode").of_variable(name));
    };
    let text = text.trim();
    Ok((!text.is_empty()).then(|| Stated { text: text.to_owned(), variable: Some(name) }))
}

/// The path in this variable. `None` if the variable is missing or empty.
pub(super) fn path(name: &str) -> Option<PathBuf> {
    env::var_os(name).filter(|path| !path.is_empty()).map(Into::into)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_is_cut_and_named_in_the_error_of_its_text() {
        let stated = read("region", "AWS_REGION", Some(" eu-central-1\n".into())).unwrap().unwrap();
        assert_eq!(stated.text, "eu-central-1");
        let error = stated.refused(BuildError::new("region", "is no name of a region"));
        assert_eq!(error.field(), "region");
        let text = "`region` is no name of a region (from the environment variable AWS_REGION)";
        assert_eq!(error.to_string(), text);
        assert_eq!(
            Stated::set("x".into()).refused(BuildError::new("region", "is x")).to_string(),
            "`region` is x"
        );
        for empty in [None, Some("".into()), Some(" \n".into())] {
            assert!(read("region", "AWS_REGION", empty).unwrap().is_none());
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_variable_that_is_not_unicode_is_not_taken_for_a_missing_one() {
        use std::os::unix::ffi::OsStringExt;

        let value = OsString::from_vec(b"arn:\xe9".to_vec());
        let error = read("role_arn", "AWS_ROLE_ARN", Some(value)).map(drop).unwrap_err();
        assert!(error.to_string().contains("AWS_ROLE_ARN") && error.field() == "role_arn", "{error}");
    }
}
