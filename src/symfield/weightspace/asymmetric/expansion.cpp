/* Trainable entries into a weight, and those of its gradient out of it: a function for Python with its derivative.

   Bit i of `bits` (of bytes in ascending order, least significant bit first) says whether entry i, in the order of memory,
   is trainable. Entries are moved and never computed with, so that results are those of a scatter and a gather, bit by bit.
   A vector of AVX2 at a time, one by one where it would reach beyond the last trainable entry. Whatever the bits are,
   nothing outside of the arrays is read or written.

   The function takes tensors from Python itself, and its derivative is a node of torch's graph: both the dispatcher of
   operators and functions written in Python cost more than moving the entries of a layer of a hundred units. torch held
   such nodes by a shared pointer, then by an intrusive one: `node` takes either. */

#include <immintrin.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <memory>
#include <mutex>
#include <optional>
#include <type_traits>

#include <ATen/EmptyTensor.h>
#include <ATen/Parallel.h>
#include <ATen/SavedTensorHooks.h>
#include <ATen/ops/gather.h>
#include <torch/csrc/autograd/function.h>
#include <torch/csrc/autograd/functions/utils.h>
#include <torch/csrc/autograd/python_variable.h>
#include <torch/csrc/autograd/saved_variable.h>
#include <torch/csrc/utils/object_ptr.h>

namespace {

using at::Tensor;
using torch::autograd::Node;
using torch::autograd::variable_list;

template <typename real>
constexpr int lanes = 32 / sizeof(real);

/* for a mask, by words of four bytes: how many trainable ones are before a word, with the sign set where it is one, which
   is what a permutation and a blend look at; and which are trainable, in turn */
struct alignas(32) Row {
  uint32_t before[8] = {}, which[8] = {};
};

template <typename real>
std::array<Row, 1 << lanes<real>> rows() {
  constexpr uint32_t words = sizeof(real) / 4; /* in an entry */
  std::array<Row, 1 << lanes<real>> all;
  for (uint32_t mask = 0; mask < all.size(); mask++)
    for (uint32_t word = 0, found = 0; word < 8; word++) {
      const bool on = mask >> word / words & 1;
      all[mask].before[word] = found | (on ? 1u << 31 : 0);
      if (on) all[mask].which[found++] = word;
    }
  return all;
}

template <typename real>
const auto table = rows<real>();

__m256 load(const void *p) { return _mm256_loadu_ps(static_cast<const float *>(p)); }
__m256i words(const uint32_t *row) { return _mm256_load_si256(reinterpret_cast<const __m256i *>(row)); }
void store(void *p, __m256 values) { _mm256_storeu_ps(static_cast<float *>(p), values); }

/* the mask of `n` entries from i on, of which i is a multiple */
uint32_t mask_at(const uint8_t *bits, int64_t i, int n) { return bits[i >> 3] >> (i & 7) & ((1u << n) - 1); }

/* `move(mask, i)` for the masks of all vectors, from i on, while at least `left()` entries go with a word of 64 bits */
template <typename real, typename Left, typename Move>
int64_t by_words(const uint8_t *bits, int64_t size, Left left, Move move) {
  constexpr int n = lanes<real>;
  int64_t i = 0;
  for (; i + 64 <= size && left() >= 64; i += 64) {
    uint64_t word;
    std::memcpy(&word, bits + (i >> 3), 8);
#pragma GCC unroll 16
    for (int j = 0; j < 64; j += n, word >>= n) move(static_cast<uint32_t>(word) & ((1u << n) - 1), i + j);
  }
  for (; i + n <= size && left() >= n; i += n) move(mask_at(bits, i, n), i);
  return i;
}

/* dense[i] = the next of `entries` where i is trainable, fixed[i] elsewhere */
template <typename real>
void spread(const real *entries, int64_t count, const real *fixed, const uint8_t *bits, int64_t size, real *dense) {
  const real *end = entries + count;
  int64_t i = by_words<real>(bits, size, [&] { return end - entries; }, [&](uint32_t mask, int64_t at) {
    const __m256i row = words(table<real>[mask].before);
    const __m256 placed = _mm256_permutevar8x32_ps(load(entries), row);
    store(dense + at, _mm256_blendv_ps(load(fixed + at), placed, _mm256_castsi256_ps(row)));
    entries += __builtin_popcount(mask);
  });
  if (i < size) std::memcpy(dense + i, fixed + i, (size - i) * sizeof(real));
  for (; i < size && entries < end; i++)
    if (mask_at(bits, i, 1)) dense[i] = *entries++;
}

/* the trainable entries of `dense`, one after the other */
template <typename real>
void collect(const real *dense, const uint8_t *bits, int64_t size, real *entries, int64_t count) {
  real *end = entries + count;
  int64_t i = by_words<real>(bits, size, [&] { return end - entries; }, [&](uint32_t mask, int64_t at) {
    store(entries, _mm256_permutevar8x32_ps(load(dense + at), words(table<real>[mask].which)));
    entries += __builtin_popcount(mask);
  });
  for (; i < size && entries < end; i++)
    if (mask_at(bits, i, 1)) *entries++ = dense[i];
}

int64_t ones(const uint8_t *bits, int64_t bytes) {
  int64_t count = 0, i = 0;
  for (uint64_t word; i + 8 <= bytes; i += 8) {
    std::memcpy(&word, bits + i, 8);
    count += __builtin_popcountll(word);
  }
  for (; i < bytes; i++) count += __builtin_popcount(bits[i]);
  return count;
}

constexpr int64_t enough = 32768; /* entries for one thread, as for sums and products of torch */

/* `move(start, stop, first, count)` for parts of all entries, whose trainable ones are the `count` from `first` on; on the
   threads of torch, in whole words of bits, and such that no part takes entries of another */
template <typename Move>
void in_parts(const uint8_t *bits, int64_t size, int64_t count, Move move) {
  constexpr int64_t word = 64;
  at::parallel_for(0, (size + word - 1) / word, enough / word, [&](int64_t begin, int64_t end) {
    const int64_t start = begin * word, stop = std::min(size, end * word);
    const int64_t first = std::min(count, ones(bits, start / 8));
    const int64_t last = stop == size ? count : std::min(count, first + ones(bits + start / 8, (stop - start) / 8));
    move(start, stop, first, last - first);
  });
}

/* whether entries lie in memory as they are, and nothing wants to see what is done with them */
bool plain(const Tensor &x) {
  using c10::DispatchKey;
  static const c10::DispatchKeySet of_tensor(
      {DispatchKey::CPU, DispatchKey::ADInplaceOrView, DispatchKey::AutogradCPU, DispatchKey::AutocastCPU});
  static const c10::DispatchKeySet of_thread(
      {DispatchKey::BackendSelect, DispatchKey::ADInplaceOrView, DispatchKey::AutocastCPU});
  const auto local = c10::impl::tls_local_dispatch_key_set();
  return of_tensor.has_all(x.key_set()) && of_thread.has_all(local.included_ - local.excluded_);
}

template <typename Function>
void with_type_of(const Tensor &x, Function function) {
  if (x.scalar_type() == at::kFloat)
    function(float{});
  else
    function(double{});
}

/* the places of the first `count` trainable entries */
Tensor places_of(const Tensor &bits, int64_t count) {
  Tensor places = at::detail::empty_cpu({count}, at::kLong);
  const uint8_t *mask = bits.const_data_ptr<uint8_t>();
  int64_t *into = places.mutable_data_ptr<int64_t>(), found = 0;
  for (int64_t i = 0; found < count && i < 8 * bits.numel(); i++)
    if (mask_at(mask, i, 1)) into[found++] = i;
  std::fill(into + found, into + count, 0);
  return places;
}

struct ExpandBackward : Node {
  Tensor places, bits; /* constants, that need no guard against changes in place */
  at::DimVector shape;  /* of the entries */
  std::optional<torch::autograd::SavedVariable> hooked; /* the places where hooks of the caller see what is saved */

  std::string name() const override { return "ExpandBackward"; }

  void release_variables() override {
    std::lock_guard<std::mutex> lock(mutex_);
    places.reset();
    bits.reset();
    if (hooked) hooked->reset_data();
  }

  variable_list apply(variable_list &&gradients) override {
    std::lock_guard<std::mutex> lock(mutex_);
    TORCH_CHECK(bits.defined(), torch::autograd::ERR_BACKWARD_TWICE);
    if (!gradients[0].defined()) return {Tensor()};
    const Tensor gradient = gradients[0].contiguous();
    if (c10::GradMode::is_enabled() || !plain(gradient)) {
      const Tensor at = hooked             ? hooked->unpack()
                        : places.defined() ? places
                                           : places_of(bits, c10::multiply_integers(shape));
      const Tensor flat = at.dim() == 2 ? gradient.reshape({gradient.size(0), -1}) : gradient.reshape({-1});
      return {flat.gather(-1, at).reshape(shape)};
    }
    Tensor entries = at::detail::empty_cpu(shape, gradient.scalar_type());
    with_type_of(gradient, [&](auto zero) {
      using real = decltype(zero);
      const real *dense = gradient.const_data_ptr<real>();
      real *into = entries.mutable_data_ptr<real>();
      const uint8_t *mask = bits.const_data_ptr<uint8_t>();
      in_parts(mask, gradient.numel(), entries.numel(), [=](int64_t i, int64_t stop, int64_t first, int64_t count) {
        collect(dense + i, mask + i / 8, stop - i, into + first, count);
      });
    });
    return {entries};
  }
};

template <typename Pointer, typename Made>
auto node() {
  if constexpr (std::is_same_v<Pointer, std::shared_ptr<Node>>)
    return std::make_shared<Made>();
  else
    return c10::make_intrusive<Made>();
}

/* the weight, or nothing where this is left to torch; places may be undefined, and follow from the bits where needed */
std::optional<Tensor> expand(const Tensor &entries, const Tensor &fixed, const Tensor &places, const Tensor &bits) {
  const auto type = entries.scalar_type();
  const bool hooked = !at::SavedTensorDefaultHooks::get_tls_state().stack.empty();
  if (!(type == at::kFloat || type == at::kDouble) || fixed.scalar_type() != type || bits.scalar_type() != at::kByte ||
      !plain(entries) || !plain(fixed) || !plain(bits) || !entries.is_contiguous() || !fixed.is_contiguous() ||
      !bits.is_contiguous() || bits.numel() != (fixed.numel() + 7) / 8 ||
      fixed.requires_grad() || torch::autograd::isFwGradDefined(entries) || torch::autograd::isFwGradDefined(fixed) ||
      (places.defined() ? entries.sizes() != places.sizes() : hooked) ||
      (places.defined() && places.dim() == 2 && (fixed.dim() == 0 || fixed.size(0) != places.size(0))))
    return std::nullopt;
  Tensor dense = at::detail::empty_cpu(fixed.sizes(), type);
  with_type_of(entries, [&](auto zero) {
    using real = decltype(zero);
    const real *from = entries.const_data_ptr<real>(), *values = fixed.const_data_ptr<real>();
    real *into = dense.mutable_data_ptr<real>();
    const uint8_t *mask = bits.const_data_ptr<uint8_t>();
    in_parts(mask, fixed.numel(), entries.numel(), [=](int64_t i, int64_t stop, int64_t first, int64_t count) {
      spread(from + first, count, values + i, mask + i / 8, stop - i, into + i);
    });
  });
  if (c10::GradMode::is_enabled() && entries.requires_grad() &&
      !c10::impl::tls_is_dispatch_key_excluded(c10::DispatchKey::AutogradCPU)) {
    auto backward = node<std::decay_t<decltype(entries.grad_fn())>, ExpandBackward>();
    if (hooked)
      backward->hooked.emplace(places, false);
    else
      backward->places = places;
    backward->bits = bits;
    backward->shape = entries.sizes();
    backward->set_next_edges(torch::autograd::collect_next_edges(entries));
    torch::autograd::set_history(dense, backward);
  }
  return dense;
}

PyObject *expand_in_python(PyObject *, PyObject *const *arguments, Py_ssize_t count) {
  HANDLE_TH_ERRORS
  for (Py_ssize_t i = 0; i < 4; i++)
    if (count != 4 || !(THPVariable_CheckExact(arguments[i]) || (i == 2 && arguments[i] == Py_None))) Py_RETURN_NONE;
  const Tensor &entries = THPVariable_Unpack(arguments[0]), &fixed = THPVariable_Unpack(arguments[1]);
  const Tensor none, &places = arguments[2] == Py_None ? none : THPVariable_Unpack(arguments[2]);
  const Tensor &bits = THPVariable_Unpack(arguments[3]);
  std::optional<Tensor> dense;
  {
    std::optional<pybind11::gil_scoped_release> others_go_on;
    if (fixed.numel() > 16 * enough) others_go_on.emplace(); /* a tenth of a millisecond, say */
    dense = expand(entries, fixed, places, bits);
  }
  if (!dense) Py_RETURN_NONE;
  return THPVariable_Wrap(*dense);
  END_HANDLE_TH_ERRORS
}

/* Below, references are borrowed from objects that keep them: nothing there calls code that is written in Python. */

PyObject *item(PyObject *dict, PyObject *name) {
  PyObject *found = dict && PyDict_Check(dict) ? PyDict_GetItemWithError(dict, name) : nullptr;
  if (!found) PyErr_Clear();
  return found;
}

PyObject *attributes(PyObject *object) {
  THPObjectPtr found(object ? PyObject_GenericGetDict(object, nullptr) : nullptr);
  if (!found) PyErr_Clear();
  return found.get();
}

bool empty(PyObject *dict) { return dict && PyDict_Check(dict) && PyDict_Size(dict) == 0; }

bool zero(PyObject *number) {
  const bool found = number && PyLong_CheckExact(number) && PyLong_AsLong(number) == 0;
  if (PyErr_Occurred()) PyErr_Clear();
  return found;
}

struct Words {
  static PyObject *word(const char *characters) { return PyUnicode_InternFromString(characters); }
  PyObject *const modules = word("_modules"), *const parameters = word("_parameters"), *const buffers = word("_buffers"),
                  *const parametrizations = word("parametrizations"), *const original = word("original"),
                  *const first = word("0"), *const fixed = word("fixed_values"), *const mask = word("trainable_entries"),
                  *const known = word("_mask_of_places"), *const places = word("_places"), *const bits = word("_bits"),
                  *const axis = word("axis"), *const forward = word("forward"), *const is_tensor = word("is_tensor"),
                  *const cached = word("_cache_enabled"), *const compiled = word("_compiled_call_impl"),
                  *const compiling = word("_is_compiling_flag"),
                  *const hooks[4] = {word("_forward_hooks"), word("_forward_pre_hooks"), word("_backward_hooks"),
                                     word("_backward_pre_hooks")};
};

/* whether a call of the module is a call of the forward of its class */
bool calls_forward(PyObject *module, const Words &words) {
  PyObject *compiled = item(module, words.compiled);
  return !item(module, words.forward) && (!compiled || compiled == Py_None) &&
         std::all_of(words.hooks, words.hooks + 4, [module](PyObject *name) { return empty(item(module, name)); });
}

/* whether classes have the methods that they had; looked at again when a class, or one that it derives from, has changed */
bool as_before(PyObject *const *classes, PyObject *methods) {
  static unsigned int known[2] = {};
  unsigned int tags[2];
  for (int i = 0; i < 2; i++) tags[i] = reinterpret_cast<PyTypeObject *>(classes[i])->tp_version_tag;
  if (tags[0] && tags[1] && tags[0] == known[0] && tags[1] == known[1]) return true;
  for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(methods); i++) {
    PyObject *const *of = &PyTuple_GET_ITEM(PyTuple_GET_ITEM(methods, i), 0); /* a class, a name, a function */
    THPObjectPtr found(PyObject_GetAttr(of[0], of[1]));
    if (!found) PyErr_Clear();
    if (found.get() != of[2]) return false;
  }
  for (int i = 0; i < 2; i++) known[i] = reinterpret_cast<PyTypeObject *>(classes[i])->tp_version_tag;
  return true;
}

bool has_type(PyObject *object, PyObject *type) { return object && reinterpret_cast<PyObject *>(Py_TYPE(object)) == type; }

/* The weight of a layer, where torch's parametrization would do no more than to expand its entries, else nothing. Told in
   one tuple: the class of a list of steps, that of the only step, the names of torch.nn.utils.parametrize, those of
   torch.compiler, hooks of all modules, and methods that others may replace. */
PyObject *read_in_python(PyObject *, PyObject *const *arguments, Py_ssize_t count) {
  static const Words words;
  PyObject *const told = count == 3 ? arguments[2] : nullptr;
  if (!told || !PyTuple_Check(told) || PyTuple_GET_SIZE(told) != 6 || !PyTuple_Check(PyTuple_GET_ITEM(told, 4)) ||
      !PyTuple_Check(PyTuple_GET_ITEM(told, 5))) {
    PyErr_SetString(PyExc_TypeError, "expected a layer, the name of its weight, and a tuple of six");
    return nullptr;
  }
  PyObject *const *const of = &PyTuple_GET_ITEM(told, 0);
  PyObject *layer = attributes(arguments[0]), *every = item(item(layer, words.modules), words.parametrizations);
  PyObject *list = item(item(attributes(every), words.modules), arguments[1]), *steps = attributes(list);
  PyObject *modules = item(steps, words.modules), *first = item(modules, words.first), *step = attributes(first);
  if (!has_type(list, of[0]) || !has_type(first, of[1]) || PyDict_Size(modules) != 1) Py_RETURN_NONE;
  PyObject *buffers = item(step, words.buffers), *mask = item(buffers, words.mask);
  if (!mask || mask != item(step, words.known) || !zero(item(step, words.axis)) || !zero(item(of[2], words.cached)) ||
      item(of[3], words.compiling) != Py_False || item(steps, words.is_tensor) != Py_True ||
      !calls_forward(step, words) || !calls_forward(steps, words) || item(layer, words.parametrizations) ||
      item(steps, words.original) || item(step, words.fixed) || item(step, words.mask) || !as_before(of, of[5]))
    Py_RETURN_NONE;
  for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(of[4]); i++)
    if (!empty(PyTuple_GET_ITEM(of[4], i))) Py_RETURN_NONE;
  PyObject *const tensors[] = {item(item(steps, words.parameters), words.original), item(buffers, words.fixed),
                               item(step, words.places), item(step, words.bits)};
  THPObjectPtr held[4]; /* while others go on */
  for (int i = 0; i < 4; i++) {
    if (!tensors[i]) Py_RETURN_NONE;
    held[i] = Py_NewRef(tensors[i]);
  }
  return expand_in_python(nullptr, tensors, 4);
}

template <typename Function>
PyCFunction without_types(Function *function) {
  return reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(function));
}

PyMethodDef functions[] = {
    {"expand", without_types(expand_in_python), METH_FASTCALL,
     "entries, fixed, places or None, bits: the weight, or None where this is left to torch"},
    {"read", without_types(read_in_python), METH_FASTCALL,
     "layer, name of a weight, what else to look at: the weight, or None where this is left to torch"},
    {nullptr, nullptr, 0, nullptr}};

PyModuleDef module = {PyModuleDef_HEAD_INIT, "expansion", nullptr, -1, functions, nullptr, nullptr, nullptr, nullptr};

}  // namespace

PyMODINIT_FUNC PyInit_expansion() { return PyModule_Create(&module); }
