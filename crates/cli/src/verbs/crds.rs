//! `crds`: the CustomResourceDefinitions, as `deploy/crds` holds them.

use kube::ResourceExt as _;

use crate::{
    cli::CrdsArgs,
    failure::{Failure, Problem},
    printer::Printer,
};

/// Prints them, or writes one file for each.
pub(crate) fn crds(arguments: &CrdsArgs, printer: &Printer) -> Result<(), Failure> {
    for (number, definition) in kubeopencode_api::crds().into_iter().enumerate() {
        let text = serde_saphyr::to_string(&definition).map_err(|error| {
            Problem::new(format!("a definition cannot be written: {error}")).failed()
        })?;
        match &arguments.dir {
            None => {
                if number > 0 {
                    printer.text("---");
                }
                printer.text(&text);
            }
            Some(dir) => {
                let path = dir.join(format!("{}.yaml", definition.name_any()));
                std::fs::create_dir_all(dir)
                    .and_then(|()| std::fs::write(&path, text))
                    .map_err(|error| {
                        Problem::new(format!("it cannot be written: {error}"))
                            .at(path.display())
                            .failed()
                    })?;
            }
        }
    }
    Ok(())
}
