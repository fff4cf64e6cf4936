// The process group of a training job: c10d's, as PyTorch has it. Declared in src/distributed.rs.

#define USE_C10D_GLOO
#ifdef PORTOLAN_CUDA
#define USE_C10D_NCCL
#endif

#include <ATen/ATen.h>
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroup.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>
#ifdef PORTOLAN_CUDA
#include <torch/csrc/distributed/c10d/ProcessGroupNCCL.hpp>
#endif
#include <torch/csrc/distributed/c10d/TCPStore.hpp>
#include <torch/csrc/distributed/c10d/reducer.hpp>
#include <torch/csrc/autograd/autograd.h>

#include "guarded.h"

namespace {

// The Reducer warns about every network that has 1x1 convolutions with the channels last in memory:
// their strides can be written in two ways, and it prefers another than cuDNN. The warning is
// harmless.
struct Warnings : c10::WarningHandler {
  void process(const c10::Warning &warning) override {
    if (warning.msg().find("Grad strides do not match bucket view strides") == std::string::npos)
      c10::WarningHandler::process(warning);
  }
};

// The group of this process; null while it works alone.
c10::intrusive_ptr<c10d::ProcessGroup> group;

c10d::ProcessGroup &joined() {
  TORCH_CHECK(group, "this process has joined no group");
  return *group;
}

at::Tensor summed(const at::Tensor &x) {
  std::vector<at::Tensor> all{x.detach().clone(at::MemoryFormat::Contiguous)};
  joined().allreduce(all)->wait();
  return all[0];
}

at::Tensor gathered(const at::Tensor &x) {
  auto own = x.detach().contiguous();
  std::vector<std::vector<at::Tensor>> all(1);
  for (int i = 0; i < joined().getSize(); ++i)
    all[0].push_back(at::empty_like(own));
  std::vector<at::Tensor> mine{own};
  joined().allgather(all, mine)->wait();
  return at::cat(all[0], 0);
}

// The gradient of a sum over processes is a sum over processes: every process's loss depends on
// every process's summand.
struct Sum : torch::autograd::Function<Sum> {
  static at::Tensor forward(torch::autograd::AutogradContext *, const at::Tensor &x) { return summed(x); }
  static torch::autograd::variable_list backward(torch::autograd::AutogradContext *,
                                                 torch::autograd::variable_list gradients) {
    return {summed(gradients[0])};
  }
};

struct Gather : torch::autograd::Function<Gather> {
  static at::Tensor forward(torch::autograd::AutogradContext *ctx, const at::Tensor &x) {
    ctx->saved_data["rows"] = x.size(0);
    return gathered(x);
  }
  static torch::autograd::variable_list backward(torch::autograd::AutogradContext *ctx,
                                                 torch::autograd::variable_list gradients) {
    auto rows = ctx->saved_data["rows"].toInt();
    return {summed(gradients[0]).narrow(0, joined().getRank() * rows, rows)};
  }
};

using Optional = std::optional<at::Tensor>;

// Batch norm with the statistics of all processes' batches, which have the same size. It takes one
// collective operation forward and one backward.
struct BatchNorm : torch::autograd::Function<BatchNorm> {
  static at::Tensor forward(torch::autograd::AutogradContext *ctx, const at::Tensor &x, const Optional &weight,
                            const Optional &bias, at::Tensor running_mean, at::Tensor running_var, double momentum,
                            double eps) {
    auto [own_mean, own_var] = at::batch_norm_update_stats(x, {}, {}, 0);
    auto all = gathered(at::stack({own_mean, own_var}).unsqueeze(0)); // [processes, 2, channels]
    auto means = all.select(1, 0);
    auto mean = means.mean(0);
    auto var = all.select(1, 1).mean(0) + (means - mean).square().mean(0);
    double count = double(x.numel()) / x.size(1) * joined().getSize();
    running_mean.lerp_(mean.to(running_mean.scalar_type()), momentum);
    running_var.lerp_((var * (count / (count - 1))).to(running_var.scalar_type()), momentum);
    ctx->save_for_backward({x, weight.value_or(at::Tensor()), mean, var});
    ctx->saved_data["count"] = count;
    ctx->saved_data["eps"] = eps;
    return at::batch_norm(x, weight, bias, mean, var, /*training=*/false, 0, eps, /*cudnn_enabled=*/true);
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext *ctx,
                                                 torch::autograd::variable_list gradients) {
    auto saved = ctx->get_saved_variables();
    auto x = saved[0], weight = saved[1], mean = saved[2], var = saved[3];
    double count = ctx->saved_data["count"].toDouble(), eps = ctx->saved_data["eps"].toDouble();
    auto dy = gradients[0];
    auto normal = at::batch_norm(x, {}, {}, mean, var, false, 0, eps, true);
    std::vector<int64_t> dims;
    for (int64_t dim = 0; dim < x.dim(); ++dim)
      if (dim != 1)
        dims.push_back(dim);
    auto wide = mean.scalar_type();
    auto own = at::stack({dy.sum(dims, false, wide), (dy * normal).sum(dims, false, wide)});
    auto over_all = summed(own) / count;
    std::vector<int64_t> shape(x.dim(), 1);
    shape[1] = -1;
    auto each = [&](const at::Tensor &channels) { return channels.to(x.scalar_type()).view(shape); };
    auto scale = (var + eps).rsqrt();
    if (weight.defined())
      scale = scale * weight;
    auto dx = (dy - each(over_all[0])).addcmul_(normal, each(over_all[1]), -1).mul_(each(scale));
    if (!weight.defined())
      return {dx, {}, {}, {}, {}, {}, {}};
    return {dx, own[1].to(weight.scalar_type()), own[0].to(weight.scalar_type()), {}, {}, {}, {}};
  }
};

} // namespace

extern "C" {

// Joins the other processes through a store, which process 0 serves unless an agent does. The group
// uses Gloo on the CPU, and NCCL between GPUs (cuda_index at least 0).
const char *portolan_group_join(int64_t rank, int64_t size, const char *address, int64_t port, bool serve,
                                const char *prefix, int64_t timeout_seconds, int64_t cuda_index) {
  return guarded([&] {
    static Warnings warnings;
    c10::WarningUtils::set_warning_handler(&warnings);
    auto timeout = std::chrono::milliseconds(1000 * timeout_seconds);
    c10d::TCPStoreOptions meeting;
    meeting.port = static_cast<uint16_t>(port);
    meeting.isServer = serve;
    meeting.numWorkers = size;
    meeting.waitWorkers = false;
    meeting.timeout = timeout;
    c10::intrusive_ptr<c10d::Store> store = c10::make_intrusive<c10d::TCPStore>(address, meeting);
    store = c10::make_intrusive<c10d::PrefixStore>(prefix, store);

    auto joining = c10::make_intrusive<c10d::ProcessGroup>(store, rank, size);
    auto options = c10d::ProcessGroupGloo::Options::create(timeout);
    options->devices.push_back(c10d::ProcessGroupGloo::createDefaultDevice());
    auto gloo_store = c10::make_intrusive<c10d::PrefixStore>("gloo", store);
    auto gloo = c10::make_intrusive<c10d::ProcessGroupGloo>(gloo_store, rank, size, options);
    gloo->setSequenceNumberForGroup();
    joining->setBackend(c10::kCPU, c10d::ProcessGroup::BackendType::GLOO, gloo);
    joining->setDefaultBackend(c10d::ProcessGroup::BackendType::GLOO);
    if (cuda_index >= 0) {
#ifdef PORTOLAN_CUDA
      auto nccl_options = c10d::ProcessGroupNCCL::Options::create();
      nccl_options->timeout = timeout;
      auto nccl_store = c10::make_intrusive<c10d::PrefixStore>("nccl", store);
      auto nccl = c10::make_intrusive<c10d::ProcessGroupNCCL>(nccl_store, rank, size, nccl_options);
      nccl->setSequenceNumberForGroup();
      joining->setBackend(c10::kCUDA, c10d::ProcessGroup::BackendType::NCCL, nccl);
      joining->setDefaultBackend(c10d::ProcessGroup::BackendType::NCCL);
#else
      throw std::runtime_error("this build of Portolan has no CUDA");
#endif
    }
    group = joining;
  });
}

// Orderly if all processes leave. Otherwise it does not wait for the others, which may be gone.
const char *portolan_group_leave(bool orderly) {
  return guarded([&] {
    auto leaving = std::move(group);
    if (!leaving)
      return;
    if (orderly)
      leaving->shutdown();
    else
      leaving->abort();
  });
}

// out = the sum of all processes' x; carries gradients.
const char *portolan_group_sum(at::Tensor *x, at::Tensor **out) {
  return guarded([&] { *out = new at::Tensor(Sum::apply(*x)); });
}

// out = all processes' rows by rank; carries gradients.
const char *portolan_group_gather(at::Tensor *x, at::Tensor **out) {
  return guarded([&] { *out = new at::Tensor(Gather::apply(*x)); });
}

// out = batch norm of x [n, channels, …] with the statistics of all processes' batches, which also
// update the running ones. Weight and bias may both be null. Carries gradients.
const char *portolan_group_batch_norm(at::Tensor *x, at::Tensor *weight, at::Tensor *bias, at::Tensor *running_mean,
                                      at::Tensor *running_var, double momentum, double eps, at::Tensor **out) {
  return guarded([&] {
    auto given = [](at::Tensor *tensor) { return tensor ? Optional(*tensor) : Optional(); };
    *out = new at::Tensor(
        BatchNorm::apply(*x, given(weight), given(bias), *running_mean, *running_var, momentum, eps));
  });
}

// Overwrites each tensor with what process 0 has.
const char *portolan_group_broadcast(at::Tensor *const *items, size_t n) {
  return guarded([&] {
    torch::NoGradGuard no_grad;
    for (auto &tensor : tensors(items, n)) {
      auto contiguous = tensor.contiguous();
      std::vector<at::Tensor> one{contiguous};
      joined().broadcast(one)->wait();
      if (!contiguous.is_same(tensor))
        tensor.copy_(contiguous);
    }
  });
}

// Averages gradients over processes during the backward pass, one bucket at a time, as
// DistributedDataParallel does: in the reverse order of the parameters, with a small first bucket
// so that communication starts early.
const char *portolan_reducer_new(at::Tensor *const *items, size_t n, c10d::Reducer **out) {
  return guarded([&] {
    TORCH_CHECK(group, "this process has joined no group");
    auto params = tensors(items, n);
    std::vector<at::Tensor> reversed(params.rbegin(), params.rend());
    std::vector<bool> sparse(n, false);
    auto buckets = std::get<0>(c10d::compute_bucket_assignment_by_size(
        reversed, {c10d::kDefaultFirstBucketBytes, c10d::kDefaultBucketBytesCap}, sparse));
    *out = new c10d::Reducer(reversed, buckets, group, sparse, c10d::kDefaultBucketBytesCap,
                             /*find_unused_parameters=*/false, /*gradient_as_bucket_view=*/true, {},
                             c10d::kDefaultFirstBucketBytes, /*skip_all_reduce_unused_params=*/false,
                             /*use_python_reducer=*/false, {});
  });
}

// Call it with a loss before its backward pass to average the gradients in that pass.
const char *portolan_reducer_prepare(c10d::Reducer *reducer, at::Tensor *loss) {
  return guarded([&] {
    reducer->prepare_for_forward();
    reducer->prepare_for_backward({*loss});
  });
}

const char *portolan_reducer_drop(c10d::Reducer *reducer) {
  return guarded([&] { delete reducer; });
}

} // extern "C"
