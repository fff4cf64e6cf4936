//! The names of metrics. Methods log further ones of their own; those that the doctor reads are
//! here.

/// The training loss, the mean over the steps since the last row.
pub const LOSS: &str = "loss";
/// The learning rate of the last step.
pub const LEARNING_RATE: &str = "lr";
/// Training images per second.
pub const IMAGES_PER_SECOND: &str = "images_per_second";
/// The norm of all gradients together.
pub const GRADIENT_NORM: &str = "gradient_norm";
/// The mean standard deviation of the normalized outputs, times the square root of their width: 0
/// after a collapse, 1 at best.
pub const OUTPUT_DEVIATION: &str = "output_deviation";
/// The effective rank of a batch's outputs.
pub const OUTPUT_RANK: &str = "output_rank";
/// The mean squared distance between two views of an image, after each epoch.
pub const ALIGNMENT: &str = "alignment";
/// How evenly the features cover the sphere, after each epoch; lower is more even.
pub const UNIFORMITY: &str = "uniformity";
/// The KoLeo loss of the features, after each epoch.
pub const KOLEO: &str = "koleo";
/// The effective rank of the features (RankMe), after each epoch.
pub const FEATURE_RANK: &str = "feature_rank";
/// kNN accuracy on the test images, 0 to 1.
pub const KNN_TOP1: &str = "knn_top1";
/// SimCLR and MoCo: the share of views whose other view was the most similar one.
pub const CONTRASTIVE_TOP1: &str = "contrastive_top1";
/// MAE: the share of the hidden patches' variance about their mean color that the decoder explains.
pub const EXPLAINED: &str = "explained";
/// BERT: the share of the selected tokens that were the likeliest.
pub const MASKED_ACCURACY: &str = "masked_accuracy";
/// GPT: the share of the next tokens that were the likeliest.
pub const NEXT_TOKEN_ACCURACY: &str = "next_token_accuracy";
/// BERT and GPT: the loss on held-out text, in nats for each token, after each epoch.
pub const HELD_OUT_LOSS: &str = "held_out_loss";
/// BERT and GPT: the share of held-out tokens that were the likeliest, after each epoch.
pub const HELD_OUT_ACCURACY: &str = "held_out_accuracy";
/// GPT: the loss on held-out text in bits for each character, after each epoch.
pub const BITS_PER_CHARACTER: &str = "bits_per_character";
/// VICReg: the variance term.
pub const VARIANCE: &str = "variance";
/// DINOv2: the loss of class tokens, before its scale.
pub const DINO_LOSS: &str = "dino_loss";
/// DINOv2: the loss of masked patches, before its scale.
pub const IBOT_LOSS: &str = "ibot_loss";
/// DINOv2: KoLeo of the student's class tokens, the mean over the global views, before its scale.
pub const KOLEO_LOSS: &str = "koleo_loss";
/// DINOv2: the share of a batch's images whose first view equals another image's.
pub const DUPLICATES: &str = "duplicates";
/// DINO and DINOv2: the entropy of the teacher's outputs, as a share of the largest possible.
pub const TEACHER_ENTROPY: &str = "teacher_entropy";
/// DINO and DINOv2: the divergence of the student's outputs from the teacher's.
pub const TEACHER_STUDENT_DIVERGENCE: &str = "teacher_student_divergence";
