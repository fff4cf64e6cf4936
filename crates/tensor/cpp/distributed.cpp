// The process group of a training job: c10d's, as PyTorch has it. Declared in src/distributed.rs.

#define USE_C10D_GLOO
#ifdef PORTOLAN_CUDA
#define USE_C10D_NCCL
#endif

#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroup.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>
#ifdef PORTOLAN_CUDA
#include <torch/csrc/distributed/c10d/ProcessGroupNCCL.hpp>
#endif
#include <torch/csrc/distributed/c10d/TCPStore.hpp>
#include <torch/csrc/distributed/c10d/reducer.hpp>
#include <torch/torch.h>

#include "guarded.h"

namespace {

// The Reducer warns of each network that has 1x1 convolutions with the channels last in memory: their strides can be written
// in two ways, of which it and cuDNN prefer different ones. Nothing can be done about it, and nothing has to.
struct Warnings : c10::WarningHandler {
  void process(const c10::Warning &warning) override {
    if (warning.msg().find("Grad strides do not match bucket view strides") == std::string::npos)
      c10::WarningHandler::process(warning);
  }
};

// The group that this process belongs to; null while it works alone.
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

// A sum over processes is a sum over processes backward too: every process's loss depends on every process's share.
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

} // namespace

extern "C" {

// Meets the other processes at a store (which process 0 serves, unless an agent does), then joins them: by Gloo on the CPU,
// and by NCCL between GPUs (cuda_index at least 0).
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

const char *portolan_group_leave() {
  return guarded([] { group.reset(); });
}

// out = the sum of all processes' x; carries gradients.
const char *portolan_group_sum(at::Tensor *x, at::Tensor **out) {
  return guarded([&] { *out = new at::Tensor(Sum::apply(*x)); });
}

// out = all processes' rows, in the order of their ranks; carries gradients.
const char *portolan_group_gather(at::Tensor *x, at::Tensor **out) {
  return guarded([&] { *out = new at::Tensor(Gather::apply(*x)); });
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

// Averages gradients over processes while backward runs, a bucket at a time, as DistributedDataParallel does: in the reverse
// of the order in which parameters were made, the first bucket small so that it leaves early.
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

// To be called with the loss whose backward pass comes next, if gradients are to be averaged in it.
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
