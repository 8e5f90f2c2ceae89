//! Checks the table of a file sink, and reports every error, not only the first one.

use super::config::FileConfig;
use super::settings::FileSettings;
use crate::diagnostics::Diagnostics;
use crate::journal::name_template::NameTemplate;
use crate::sink::factory::BuildContext;
use crate::units::Period;

/// Checks the table of a file sink. The result is valid only if `diagnostics` contains no error.
pub fn check(
    config: &FileConfig,
    context: &BuildContext,
    diagnostics: &mut Diagnostics,
) -> Option<FileSettings> {
    let directory = config.directory.as_deref();
    let directory = diagnostics.required_path("directory", directory, "where the files go");
    let name = NameTemplate::parse(&config.name).map_err(|message| diagnostics.refuse("name", message)).ok();
    if context.partitions.is_none() && name.as_ref().is_some_and(NameTemplate::has_partition) {
        diagnostics.refuse("name", "`{partition}` needs a fixed number of partitions: set event.partitions");
    }
    if config.max_open == 0 {
        diagnostics.refuse("max_open", "must be at least 1");
    }
    if config.max_age.is_some_and(|age| age < Period::secs(1)) {
        diagnostics.refuse("max_age", "is too short: at least `1s`; unset it for no limit");
    }
    config.rotate.check(config.max_total, diagnostics);
    Some(FileSettings {
        directory: directory?,
        name: name?,
        format: config.format,
        compression: config.compression,
        rotation: config.rotate,
        prefetch: context.prefetch,
        max_open: usize::try_from(config.max_open).unwrap_or(usize::MAX),
        max_total: config.max_total.map(|size| size.0),
        max_age: config.max_age.map(|age| age.0),
    })
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;
    use crate::sink::file::config::RotateConfig;
    use crate::units::Size;

    fn problems(config: FileConfig, partitions: Option<u32>) -> Vec<String> {
        let mut diagnostics = Diagnostics::default();
        let context = BuildContext {
            partitions: partitions.and_then(NonZeroU32::new),
            prefetch: 1024,
            is_strict: false,
            is_for_dead_letters: false,
        };
        check(&config, &context, &mut diagnostics);
        diagnostics.keys().into_iter().map(str::to_owned).collect()
    }

    fn good() -> FileConfig {
        FileConfig { directory: Some("/data".into()), ..FileConfig::default() }
    }

    #[test]
    fn the_defaults_need_a_directory_only() {
        assert_eq!(problems(FileConfig::default(), None), ["directory"]);
        assert_eq!(problems(good(), None), [""; 0]);
    }

    #[test]
    fn a_partition_in_the_name_needs_a_number_of_partitions() {
        let config = FileConfig { name: "{connection_id}-{partition}".to_owned(), ..good() };
        assert_eq!(problems(config.clone(), None), ["name"]);
        assert_eq!(problems(config, Some(16)), [""; 0]);
    }

    #[test]
    fn every_mistake_is_told_at_once() {
        let config = FileConfig {
            directory: None,
            name: "a/b".to_owned(),
            max_open: 0,
            max_total: Some(Size(10)),
            max_age: Some(Period::millis(1)),
            rotate: RotateConfig { size: Size(100), age: Period::millis(10) },
            ..FileConfig::default()
        };
        let expected = ["directory", "name", "max_open", "max_age", "rotate.age", "max_total"];
        assert_eq!(problems(config, None), expected);
    }
}
