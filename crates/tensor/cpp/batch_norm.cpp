// Batch norm over groups of a batch, fused with the addition and the ReLU that follow it.
//
// On the CPU, with the channels last, it takes one pass over memory forward and two backward, where
// libtorch has a kernel and a tensor for each step. Elsewhere it is composed of libtorch's
// operations, over all groups at once.

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <torch/csrc/autograd/custom_function.h>

#include "guarded.h"
#include "loops.h"

#include <algorithm>
#include <optional>

namespace {

// The number of rows that are summed in float32. Blocks of them are summed in float64 and in order,
// so that results do not depend on the number of threads.
constexpr int64_t BLOCK = 128;

// The blocks of rows of a tensor [groups, rows, channels].
struct Blocks {
  int64_t groups, rows, channels, per_group;
  explicit Blocks(const at::Tensor &x)
      : groups(x.size(0)), rows(x.size(1)), channels(x.size(2)), per_group((rows + BLOCK - 1) / BLOCK) {}
  // Calls `body(group, block, rows of the block, where its first number lies)` on all threads.
  template <typename F> void each(F &&body) const {
    int64_t grain = std::max<int64_t>(1, at::internal::GRAIN_SIZE / (BLOCK * channels));
    at::parallel_for(0, groups * per_group, grain, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        int64_t group = i / per_group, block = i % per_group, first = block * BLOCK;
        body(group, i, std::min(BLOCK, rows - first), (group * rows + first) * channels);
      }
    });
  }
};

// Whether the loops can be used for x.
bool on_cpu(const at::Tensor &x) { return x.is_cpu() && x.scalar_type() == at::kFloat; }
// The type of statistics and sums elsewhere.
at::ScalarType wide(const at::Tensor &x) { return x.scalar_type() == at::kDouble ? at::kDouble : at::kFloat; }

// x as [groups, rows, channels], without a copy if the channels are last.
at::Tensor grouped(const at::Tensor &x, int64_t groups) {
  auto last = x.dim() == 4 ? x.permute({0, 2, 3, 1}) : x;
  return last.contiguous().view({groups, -1, x.size(1)});
}
// A new tensor like x that `grouped` need not copy.
at::Tensor channels_last_like(const at::Tensor &x) {
  return at::empty_like(x, x.dim() == 4 ? at::MemoryFormat::ChannelsLast : at::MemoryFormat::Contiguous);
}
// The inverse: back to the shape of `like`.
at::Tensor as_images(const at::Tensor &y, const at::Tensor &like) {
  if (like.dim() != 4)
    return y.view(like.sizes());
  return y.view({like.size(0), like.size(2), like.size(3), like.size(1)}).permute({0, 3, 1, 2});
}

// Mean and variance (by n) of each group and channel: [groups, channels], in float64 on the CPU.
std::pair<at::Tensor, at::Tensor> statistics(const at::Tensor &x) {
  if (!on_cpu(x)) {
    auto [var, mean] = at::var_mean(x.to(wide(x)), at::IntArrayRef{1}, 0);
    return {mean, var};
  }
  Blocks blocks(x);
  auto c = blocks.channels;
  auto partial = at::empty({blocks.groups, blocks.per_group, 2, c}, x.options());
  auto *parts = partial.data_ptr<float>();
  auto *data = x.const_data_ptr<float>();
  blocks.each([&](int64_t, int64_t block, int64_t rows, int64_t at) {
    loops().moments(data + at, rows, c, parts + 2 * c * block, parts + 2 * c * block + c);
  });
  auto mean = at::zeros({blocks.groups, c}, x.options().dtype(at::kDouble)), var = at::zeros_like(mean);
  auto *means = mean.data_ptr<double>(), *vars = var.data_ptr<double>();
  auto size = [&](int64_t b) { return double(std::min(BLOCK, blocks.rows - b * BLOCK)); };
  for (int64_t g = 0; g < blocks.groups; ++g) {
    auto *own = parts + g * blocks.per_group * 2 * c;
    for (int64_t b = 0; b < blocks.per_group; ++b)
      for (int64_t i = 0; i < c; ++i)
        means[g * c + i] += own[2 * c * b + i] * size(b) / blocks.rows;
    // A block's squares are relative to its own mean (Chan et al. 1979).
    for (int64_t b = 0; b < blocks.per_group; ++b)
      for (int64_t i = 0; i < c; ++i) {
        double d = own[2 * c * b + i] - means[g * c + i];
        vars[g * c + i] += (own[2 * c * b + c + i] + size(b) * d * d) / blocks.rows;
      }
  }
  return {mean, var};
}

using Optional = std::optional<at::Tensor>;

struct GroupedBatchNorm : torch::autograd::Function<GroupedBatchNorm> {
  static at::Tensor forward(torch::autograd::AutogradContext *ctx, const at::Tensor &images, const Optional &weight,
                            const Optional &bias, const Optional &add, at::Tensor running_mean, at::Tensor running_var,
                            int64_t groups, double momentum, double eps, bool relu) {
    auto x = grouped(images, groups);
    auto other = add ? grouped(*add, groups) : at::Tensor();
    auto [mean, var] = statistics(x);
    double rows = x.size(1);
    // The running statistics become the mean over the groups of what each group would make of them.
    // As in libtorch's own batch norm, autograd does not count this as a change in place: it saves
    // them for the backward pass, but only evaluation mode reads them.
    running_mean.variable_data().lerp_(mean.mean(0).to(running_mean.scalar_type()), momentum);
    running_var.variable_data().lerp_((var.mean(0) * (rows / (rows - 1))).to(running_var.scalar_type()), momentum);
    auto deviation = (var + eps).rsqrt();
    auto scale = weight ? deviation * *weight : deviation;
    auto shift = -mean * scale;
    if (bias)
      shift = shift + *bias;
    scale = scale.to(wide(x)), shift = shift.to(wide(x));
    at::Tensor out;
    if (on_cpu(x)) {
      out = channels_last_like(images);
      Blocks blocks(x);
      auto *from = x.const_data_ptr<float>();
      auto *more = other.defined() ? other.const_data_ptr<float>() : nullptr;
      auto *a = scale.const_data_ptr<float>(), *b = shift.const_data_ptr<float>();
      auto *to = grouped(out, groups).data_ptr<float>();
      blocks.each([&](int64_t group, int64_t, int64_t n, int64_t at) {
        auto channels = group * blocks.channels;
        loops().transform(from + at, more ? more + at : nullptr, relu, a + channels, b + channels, n, blocks.channels, to + at);
      });
    } else {
      auto y = at::addcmul(shift.unsqueeze(1), x, scale.unsqueeze(1));
      if (other.defined())
        y = y + other;
      out = channels_last_like(images).copy_(as_images(relu ? y.relu_() : y, images));
    }
    ctx->save_for_backward({x, relu ? out : at::Tensor(), weight.value_or(at::Tensor()), mean.to(wide(x)), deviation});
    ctx->saved_data["groups"] = groups;
    ctx->saved_data["add"] = add && add->requires_grad();
    return out;
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext *ctx,
                                                 torch::autograd::variable_list gradients) {
    auto saved = ctx->get_saved_variables();
    auto x = saved[0], weight = saved[2], mean = saved[3], deviation = saved[4];
    auto groups = ctx->saved_data["groups"].toInt();
    bool add = ctx->saved_data["add"].toBool();
    auto dy = grouped(gradients[0], groups);
    auto y = saved[1].defined() ? grouped(saved[1], groups) : at::Tensor();
    double rows = x.size(1);
    Blocks blocks(x);
    auto c = blocks.channels;
    auto gain = weight.defined() ? deviation * weight : deviation; // dy/dx with the statistics held
    // dx = gain * (g - mean of g - (x - mean) * deviation^2 * mean of g * (x - mean))
    auto coefficients = [&](const at::Tensor &sum, const at::Tensor &product) {
      return at::stack({gain, -gain * deviation.square() * product / rows, -gain * sum / rows}, 1);
    };
    at::Tensor sum, product, dx, behind;
    if (on_cpu(x)) {
      auto partial = at::empty({groups, blocks.per_group, 2, c}, x.options());
      auto *parts = partial.data_ptr<float>();
      auto *g = dy.const_data_ptr<float>(), *from = x.const_data_ptr<float>(), *m = mean.const_data_ptr<float>();
      auto *out = y.defined() ? y.const_data_ptr<float>() : nullptr;
      blocks.each([&](int64_t group, int64_t block, int64_t n, int64_t at) {
        auto *own = parts + 2 * c * block;
        loops().sums(g + at, out ? out + at : nullptr, from + at, m + group * c, n, c, own, own + c);
      });
      auto total = partial.sum(1, false, at::kDouble);
      sum = total.select(1, 0), product = total.select(1, 1);
      auto abc = coefficients(sum, product).to(at::kFloat).contiguous();
      auto *k = abc.const_data_ptr<float>();
      dx = at::empty_like(x);
      if (add)
        behind = at::empty_like(x);
      auto *to = dx.data_ptr<float>(), *rest = add ? behind.data_ptr<float>() : nullptr;
      blocks.each([&](int64_t group, int64_t, int64_t n, int64_t at) {
        loops().gradient(g + at, out ? out + at : nullptr, from + at, m + group * c, k + 3 * group * c, n, c, to + at,
                 rest ? rest + at : nullptr);
      });
    } else {
      behind = y.defined() ? at::threshold_backward(dy, y, 0) : dy;
      auto g = behind.to(wide(x)), centered = x.to(wide(x)) - mean.unsqueeze(1);
      sum = g.sum(1), product = (g * centered).sum(1);
      auto abc = coefficients(sum, product).unsqueeze(2);
      dx = at::addcmul(abc.select(1, 2), g, abc.select(1, 0)).addcmul_(centered, abc.select(1, 1));
      dx = dx.to(x.scalar_type());
    }
    at::Tensor dweight, dbias;
    if (weight.defined()) {
      dweight = (product * deviation).sum(0).to(weight.scalar_type());
      dbias = sum.sum(0).to(weight.scalar_type());
    }
    auto like = gradients[0];
    return {as_images(dx, like), dweight, dbias, add ? as_images(behind, like) : at::Tensor(), {}, {}, {}, {}, {}, {}};
  }
};

} // namespace

extern "C" {

// out = batch norm of x ([n, c] or [n, c, h, w]) with the statistics of each of `groups` equal
// parts of the batch, then the addition of `add` and a ReLU if asked for. `weight`, `bias` and
// `add` may be null.
const char *portolan_batch_norm(at::Tensor *x, at::Tensor *weight, at::Tensor *bias, at::Tensor *add,
                                at::Tensor *running_mean, at::Tensor *running_var, int64_t groups, double momentum,
                                double eps, bool relu, at::Tensor **out) {
  return guarded([&] {
    auto optional = [](at::Tensor *t) { return t ? Optional(*t) : Optional(); };
    TORCH_CHECK(x->numel() > x->size(1) * groups, "batch norm needs more than one value per channel of a group");
    *out = new at::Tensor(GroupedBatchNorm::apply(*x, optional(weight), optional(bias), optional(add), *running_mean,
                                                  *running_var, groups, momentum, eps, relu));
  });
}

} // extern "C"
