//! Relative paths of a configuration.

use std::path::{Path, PathBuf};

/// Where `path` leads: as seen from the working directory if there is something, as upstream has
/// it, else from the first of `folders` that has it, which is logged. Where nobody has it, `path`.
pub fn find(path: impl AsRef<Path>, folders: &[PathBuf]) -> PathBuf {
    let path = path.as_ref();
    if path.exists() {
        return path.to_owned();
    }
    let mut elsewhere = folders.iter().map(|folder| folder.join(path));
    let Some(found) = elsewhere.find(|candidate| candidate.exists()) else {
        return path.to_owned();
    };
    tracing::info!(path = %path.display(), found = %found.display(), "found beside the configuration");
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_working_directory_goes_first_and_then_each_folder() {
        let [first, second] = [(); 2].map(|()| tempfile::tempdir().unwrap());
        let folders = [first.path().to_owned(), second.path().to_owned()];
        let name = "routes-of-the-test";
        assert_eq!(find(name, &folders), Path::new(name));
        std::fs::create_dir(second.path().join(name)).unwrap();
        assert_eq!(find(name, &folders), second.path().join(name));
        std::fs::create_dir(first.path().join(name)).unwrap();
        assert_eq!(find(name, &folders), first.path().join(name));
        // Tests run in the folder of the crate.
        std::fs::create_dir(first.path().join("src")).unwrap();
        assert_eq!(find("src", &folders), Path::new("src"));
    }
}
