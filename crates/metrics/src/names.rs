//! The names of figures. A method logs others of its own; those that the doctor reads are here too.

/// The training loss, the mean over the steps since the last row.
pub const LOSS: &str = "loss";
/// The learning rate of the last step.
pub const LEARNING_RATE: &str = "lr";
/// Training images a second.
pub const IMAGES_PER_SECOND: &str = "images_per_second";
/// The length of all gradients together.
pub const GRADIENT_NORM: &str = "gradient_norm";
/// The mean standard deviation of the normalized outputs, times the root of their width: 0 after a collapse, 1 at best.
pub const OUTPUT_DEVIATION: &str = "output_deviation";
/// The effective rank of the outputs of a batch.
pub const OUTPUT_RANK: &str = "output_rank";
/// How near two views of an image are, after each epoch.
pub const ALIGNMENT: &str = "alignment";
/// How evenly the features cover the sphere, after each epoch.
pub const UNIFORMITY: &str = "uniformity";
/// The KoLeo loss of the features, after each epoch.
pub const KOLEO: &str = "koleo";
/// The effective rank of the features (RankMe), after each epoch.
pub const FEATURE_RANK: &str = "feature_rank";
/// The share of test images that kNN classifies rightly.
pub const KNN_TOP1: &str = "knn_top1";
/// MAE: how much better than the mean color the painted patches are.
pub const EXPLAINED: &str = "explained";
/// VICReg: the variance term.
pub const VARIANCE: &str = "variance";
/// DINO: the entropy of the teacher's outputs, as a share of the largest.
pub const TEACHER_ENTROPY: &str = "teacher_entropy";
/// DINO: the divergence of the student's outputs from the teacher's.
pub const TEACHER_STUDENT_DIVERGENCE: &str = "teacher_student_divergence";
