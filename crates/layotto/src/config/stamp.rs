//! What files are like, as a number that changes when they do: one question to the system for each
//! file, which blocks.

use std::{
    collections::hash_map::DefaultHasher,
    fs,
    hash::{Hash, Hasher},
    path::{Path, PathBuf},
};

/// Changes when the file does. A link that points elsewhere counts, as Kubernetes swaps links.
pub fn of_file(file: &Path) -> u64 {
    let mut hasher = DefaultHasher::new();
    hash(file, &mut hasher);
    hasher.finish()
}

/// Changes when a file of one of the folders does, or comes or goes.
pub fn of_folders(folders: &[PathBuf]) -> u64 {
    let mut hasher = DefaultHasher::new();
    for folder in folders {
        let mut entries: Vec<_> = fs::read_dir(folder)
            .into_iter()
            .flatten()
            .filter_map(|entry| Some(entry.ok()?.path()))
            .collect();
        entries.sort();
        for entry in entries {
            entry.hash(&mut hasher);
            hash(&entry, &mut hasher);
        }
    }
    hasher.finish()
}

fn hash(file: &Path, hasher: &mut DefaultHasher) {
    use std::os::unix::fs::MetadataExt;
    if let Ok(data) = fs::metadata(file) {
        (
            data.dev(),
            data.ino(),
            data.len(),
            data.mtime(),
            data.mtime_nsec(),
        )
            .hash(hasher);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_changes_with_the_file_and_with_what_a_link_points_to() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::write(path("a"), "1").unwrap();
        fs::write(path("b"), "1").unwrap();
        std::os::unix::fs::symlink(path("a"), path("link")).unwrap();
        let first = of_file(&path("link"));
        assert_eq!(first, of_file(&path("link")));
        fs::remove_file(path("link")).unwrap();
        std::os::unix::fs::symlink(path("b"), path("link")).unwrap();
        let second = of_file(&path("link"));
        assert_ne!(first, second);
        fs::write(path("b"), "23").unwrap();
        assert_ne!(second, of_file(&path("link")));
    }

    #[test]
    fn a_stamp_changes_with_a_folder() {
        let folder = tempfile::tempdir().unwrap();
        let folders = [folder.path().to_owned()];
        let before = of_folders(&folders);
        fs::write(folder.path().join("a"), "1").unwrap();
        assert_ne!(before, of_folders(&folders));
    }
}
