//! Distillation's registry entry and recipes.

use portolan_method::{Error, Family, MethodEntry, MethodTraits, Recipe, parse_settings};

use crate::{Distill, Teacher};

/// Distillation, for programs that list and build it.
///
/// The settings hold the method's and, under `teacher`, a [`TeacherConfig`](crate::TeacherConfig),
/// which no recipe has. The teacher's values are random until the program copies the trained ones
/// into the tensors of [`Method::state`](portolan_method::Method::state) that begin with
/// `teacher.`.
pub const METHOD: MethodEntry = MethodEntry {
    name: "distill",
    title: "Distillation",
    traits: MethodTraits::new(Family::Distillation).with_queue(),
    recipes: &[
        Recipe { name: "shapes", toml: include_str!("../recipes/shapes.toml") },
        Recipe { name: "cifar10", toml: include_str!("../recipes/cifar10.toml") },
        Recipe { name: "imagenet", toml: include_str!("../recipes/imagenet.toml") },
    ],
    build: |mut settings, encoder, views, device| {
        let Some(toml::Value::Table(teacher)) = settings.remove("teacher") else {
            return Err(Error::Setting(
                "distillation imitates a teacher, and there is none; name one: portolan distill \
                 --teacher FILE (an encoder's file, a hub folder or a run)"
                    .to_owned(),
            ));
        };
        let teacher = Teacher::new(parse_settings(teacher)?, device)?;
        Ok(Box::new(Distill::new(parse_settings(settings)?, encoder, teacher, views)?))
    },
    needs_color: false,
};
