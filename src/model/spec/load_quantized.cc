#include "model/spec/load_quantized.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <optional>
#include <set>
#include <unordered_map>

#include "base/checked.h"
#include "base/half.h"
#include "base/names.h"
#include "format/folder_formats.h"
#include "format/format.h"

namespace whit {
namespace {

using nlohmann::json;

[[noreturn]] void refuse(const std::string& what, const std::string& where, const std::string& found = {},
                         const std::string& hint = {}) {
  throw Error(ErrorKind::input, what, where, found.substr(0, 200), hint);
}

std::string shape_text(const SafetensorsEntry& entry) {
  std::string text;
  for (const uint64_t size : entry.shape) text += (text.empty() ? "" : " x ") + std::to_string(size);
  return entry.dtype + " " + (text.empty() ? "scalar" : text);
}

// ---- quantization_config ----

enum class Packing { plain, gptq, awq };  // plain: floats, those of 8 bits with scales
struct Quantization {
  Packing packing = Packing::plain;
  bool zeros_minus_one = false, symmetric = false;
  uint64_t group = 0;                       // inputs that share a scale; 0: all
  uint64_t block_rows = 0, block_cols = 0;  // of f8 scales; 0: not told
};

class QuantizationKeys {
 public:
  QuantizationKeys(const json& object, std::string where) : object_(object), where_(std::move(where)) {}
  const json* find(const char* key) const {
    const auto found = object_.is_object() ? object_.find(key) : object_.end();
    return found == object_.end() || found->is_null() ? nullptr : &*found;
  }
  [[noreturn]] void bad(const char* key, const std::string& hint) const {
    const json* value = find(key);
    refuse("this kind of quantized folder is not read", fmt::format("{}: quantization_config.{}", where_, key),
           value ? value->dump(-1, ' ', false, json::error_handler_t::replace) : "nothing", hint);
  }
  std::string string(const char* key, const char* fallback) const {
    const json* value = find(key);
    if (value && !value->is_string()) bad(key, "a string is wanted");
    return value ? value->get<std::string>() : fallback;
  }
  int64_t integer(const char* key, int64_t fallback) const {
    const json* value = find(key);
    if (value && !value->is_number_integer()) bad(key, "an integer is wanted");
    return value ? value->get<int64_t>() : fallback;
  }
  bool boolean(const char* key, bool fallback) const {
    const json* value = find(key);
    if (value && !value->is_boolean()) bad(key, "true or false is wanted");
    return value ? value->get<bool>() : fallback;
  }

 private:
  const json& object_;
  std::string where_;
};

// The packing that auto-round names is GPTQ's or AWQ's, with its own words for it ("auto_round:auto_gptq"; older
// versions put it in `backend`). Its others store the middle of the grid in one way or the other: only that of a
// symmetric grid, 7 or 8, tells which.
std::string auto_round_method(const QuantizationKeys& keys) {
  const char* key = keys.find("packing_format") || !keys.find("backend") ? "packing_format" : "backend";
  const std::string packing = keys.string(key, "auto_round");
  const auto is = [&](std::string_view name) {
    return packing == name || packing.starts_with(fmt::format("{}:", name));
  };
  if (keys.string("data_type", "int") != "int") keys.bad("data_type", "int is read");
  if (keys.integer("act_bits", 16) < 16) keys.bad("act_bits", "activations of floats are read");
  if (is("auto_round:auto_awq") || is("auto_round:awq") || is("auto_awq")) return "awq";
  if (is("auto_round:auto_gptq") || is("auto_round:gptq") || is("auto_gptq")) return "gptq";
  if (packing != "auto_round" && packing != "auto_round:gptqmodel" && packing != "auto_round:exllamav2" &&
      packing != "auto_round:tritonv2")
    keys.bad(key, "auto_round:auto_gptq and auto_round:auto_awq are read");
  if (!keys.boolean("sym", false)) keys.bad(key, "this packing is read of symmetric grids (sym)");
  return "gptq";
}

// Layers that are packed in another way than the rest, by auto-round (extra_config) or GPTQModel (dynamic). Those that
// are left as floats are seen by their tensors.
void check_layers(const QuantizationKeys& keys) {
  const auto same = [&](const json& layer, const char* key, const json* common) {
    return !layer.contains(key) || layer[key].is_null() || (common && layer[key] == *common);
  };
  for (const char* key : {"extra_config", "dynamic"}) {
    const json* layers = keys.find(key);
    if (!layers) continue;
    if (!layers->is_object()) keys.bad(key, "a table of layers is wanted");
    for (const auto& [name, layer] : layers->items()) {
      if (!layer.is_object() || name.starts_with("-:")) continue;
      const auto bits = layer.find("bits");
      if (bits != layer.end() && bits->is_number_integer() && *bits >= json(16)) continue;
      for (const char* option : {"bits", "group_size", "sym"})
        if (!same(layer, option, keys.find(option)))
          keys.bad(key, "layers with other bits, groups or grids are not read");
    }
  }
}

Quantization read_quantization(const json& config, const std::string& where) {
  const auto found = config.is_object() ? config.find("quantization_config") : config.end();
  Quantization quantization;
  if (found == config.end() || found->is_null()) return quantization;
  const QuantizationKeys keys(*found, where);
  std::string method = keys.string("quant_method", "");
  const bool auto_round = method == "auto-round" || method == "intel/auto-round" || method == "auto_round";
  if (auto_round) method = auto_round_method(keys);
  if (method == "gptq" || method == "awq") {
    check_layers(keys);
    quantization.packing = method == "gptq" ? Packing::gptq : Packing::awq;
    if (keys.integer(keys.find("w_bit") ? "w_bit" : "bits", 4) != 4) keys.bad("bits", "4 bits are read");
    const int64_t group = keys.integer(keys.find("q_group_size") ? "q_group_size" : "group_size", 128);
    if (group != -1 && (group < 1 || group > int64_t{1} << 31)) keys.bad("group_size", "-1 or a number of inputs");
    quantization.group = group == -1 ? 0 : static_cast<uint64_t>(group);
    const std::string version = small_letters(keys.string("version", "gemm"));
    if (method == "awq" && version != "gemm") keys.bad("version", "the layout gemm is read");
    const std::string format = keys.string("checkpoint_format", "gptq");
    if (method == "gptq" && format != "gptq" && format != "gptq_v2") keys.bad("checkpoint_format", "gptq, gptq_v2");
    quantization.zeros_minus_one = method == "gptq" && format == "gptq";
    quantization.symmetric = keys.boolean("sym", false);
    return quantization;
  }
  if (method == "compressed-tensors" && keys.string("format", "") != "float-quantized" &&
      keys.string("format", "") != "naive-quantized" && keys.string("format", "") != "dense")
    keys.bad("format", "float-quantized and dense are read");
  if (method != "fp8" && method != "compressed-tensors" && method != "fbgemm_fp8")
    keys.bad("quant_method", "gptq, awq, auto-round, fp8 and compressed-tensors are read");
  if (const json* block = keys.find("weight_block_size")) {
    if (!block->is_array() || block->size() != 2 || !(*block)[0].is_number_unsigned() ||
        !(*block)[1].is_number_unsigned() || (*block)[0] == 0 || (*block)[1] == 0)
      keys.bad("weight_block_size", "a pair of sizes is wanted");
    quantization.block_rows = (*block)[0].get<uint64_t>();
    quantization.block_cols = (*block)[1].get<uint64_t>();
  }
  return quantization;
}

// ---- tensors ----

class FolderReader {
 public:
  FolderReader(const std::vector<FolderTensor>& tensors, const Quantization& quantization)
      : tensors_(tensors), quantization_(quantization) {
    for (const FolderTensor& tensor : tensors_)
      if (!by_name_.emplace(tensor.entry.name, &tensor).second) refuse("a tensor is there twice", tensor.where());
  }

  std::vector<FolderMatrix> read() {
    std::vector<FolderMatrix> matrices;
    for (const FolderTensor& tensor : tensors_) {
      const std::string& name = tensor.entry.name;
      if (tensor.entry.dtype == "F8_E4M3")
        matrices.push_back(scaled_f8(tensor));
      else if (is_int4() && name.ends_with(".qweight"))
        matrices.push_back(int4(tensor, name.substr(0, name.size() - std::string_view("qweight").size())));
      else if (!is_part(name))
        matrices.push_back(dense(tensor));
    }
    for (const FolderTensor& tensor : tensors_)
      if (is_part(tensor.entry.name) && !used_.contains(&tensor) && !tensor.entry.name.ends_with(".input_scale"))
        refuse("a part of a quantized tensor belongs to none", tensor.where(), shape_text(tensor.entry));
    return matrices;
  }

 private:
  bool is_int4() const { return quantization_.packing != Packing::plain; }
  // A tensor that is read together with the one it belongs to. input_scale is for kernels that round activations.
  bool is_part(std::string_view name) const {
    const auto ends = [&](std::initializer_list<std::string_view> suffixes) {
      return std::any_of(suffixes.begin(), suffixes.end(), [&](std::string_view end) { return name.ends_with(end); });
    };
    if (is_int4()) return ends({".qzeros", ".scales", ".g_idx"});
    return ends({".weight_scale", ".weight_scale_inv", ".input_scale"});
  }

  const FolderTensor* find(const std::string& name) {
    const auto found = by_name_.find(name);
    if (found == by_name_.end()) return nullptr;
    used_.insert(found->second);
    return found->second;
  }
  // A part of this dtype and shape.
  const FolderTensor& need(const FolderTensor& of, const std::string& name, const char* dtype,
                           const std::vector<uint64_t>& shape) {
    const FolderTensor* part = find(name);
    if (!part) refuse("a part of a quantized tensor is missing", of.where(), name);
    if (part->entry.dtype != dtype || part->entry.shape != shape)
      refuse("a part of a quantized tensor has another type or shape", part->where(), shape_text(part->entry),
             fmt::format("{} {} is wanted", dtype, fmt::join(shape, " x ")));
    return *part;
  }

  static StoredTensor matrix(const FolderTensor& from) {
    StoredTensor tensor;
    const std::vector<uint64_t>& shape = from.entry.shape;
    if (shape.empty() || shape.size() > 2)
      refuse("a tensor is no vector or matrix", from.where(), fmt::format("{} dimensions", shape.size()));
    tensor.dimensions = static_cast<int>(shape.size());
    tensor.shape = {shape.size() == 2 ? shape[0] : 1, shape.back()};
    if (tensor.shape.rows == 0 || tensor.shape.cols == 0) refuse("a tensor is empty", from.where());
    tensor.parts = {from.entry.data};
    tensor.owner = from.file;
    return tensor;
  }

  static FolderMatrix dense(const FolderTensor& from) {
    FolderMatrix out{from.entry.name, from.where(), from.entry.dtype, matrix(from)};
    for (const auto& [dtype, format] : {std::pair("F32", "f32"), {"F16", "f16"}, {"BF16", "bf16"}})
      if (from.entry.dtype == dtype) out.tensor.format = make_format(format);
    if (!out.tensor.format)
      refuse("a tensor has a dtype that is not read here", from.where(), from.entry.dtype,
             "F32, F16, BF16 and F8_E4M3 are");
    return out;
  }

  // Floats of a dense tensor of any shape.
  static std::vector<float> floats(const FolderTensor& from) {
    uint64_t count = 1;
    for (const uint64_t size : from.entry.shape) count *= size;  // the reader has checked the product
    FolderTensor flat = from;
    flat.entry.shape = {count};
    const FolderMatrix stored = dense(flat);
    std::vector<float> values(count);
    stored.tensor.format->unpack({1, count}, stored.tensor.parts, 0, 1, values.data());
    return values;
  }

  struct Owned {
    std::vector<std::shared_ptr<const MappedFile>> files;
    std::vector<float> floats;
    std::vector<int32_t> integers;
  };

  FolderMatrix scaled_f8(const FolderTensor& from) {
    FolderMatrix out{from.entry.name, from.where(), "F8_E4M3", matrix(from)};
    const Shape shape = out.tensor.shape;
    auto owned = std::make_shared<Owned>();
    owned->files = {from.file};
    const FolderTensor* scale = nullptr;
    for (const char* suffix :
         {"_scale_inv", "_scale"})  // both multiply; the first is the inverse of what was divided by
      if (!scale) scale = find(from.entry.name + suffix);
    uint64_t rows = shape.rows, cols = shape.cols;
    owned->floats = scale ? floats(*scale) : std::vector<float>{1.0f};
    if (scale && owned->floats.size() != 1) {
      const std::vector<uint64_t>& grid = scale->entry.shape;
      const uint64_t down = grid[0], across = grid.size() == 2 ? grid[1] : 1;
      const auto side = [](uint64_t size, uint64_t parts, uint64_t told) {
        if (parts == 1) return size;
        if (parts == size) return uint64_t{1};
        return told != 0 ? told : parts != 0 && size % parts == 0 ? size / parts : 0;
      };
      rows = side(shape.rows, down, quantization_.block_rows);
      cols = side(shape.cols, across, quantization_.block_cols);
      if (grid.size() > 2 || rows == 0 || cols == 0 || div_up(shape.rows, rows) != down ||
          div_up(shape.cols, cols) != across)
        refuse("the scales do not fit the matrix", scale->where(), shape_text(scale->entry),
               fmt::format("of {} x {}", shape.rows, shape.cols));
    }
    out.tensor.format = make_scaled_f8(rows, cols);
    out.tensor.parts.push_back(std::as_bytes(std::span(owned->floats)));
    out.tensor.owner = std::move(owned);
    return out;
  }

  // `base` ends with a dot.
  FolderMatrix int4(const FolderTensor& from, const std::string& base) {
    const bool awq = quantization_.packing == Packing::awq;
    const std::vector<uint64_t>& shape = from.entry.shape;
    if (from.entry.dtype != "I32" || shape.size() != 2 || shape[0] == 0 || shape[1] == 0)
      refuse("packed codes are no matrix of 32-bit words", from.where(), shape_text(from.entry));
    const uint64_t in = awq ? shape[0] : checked_mul(shape[0], 8, from.where());
    const uint64_t outputs = awq ? checked_mul(shape[1], 8, from.where()) : shape[1];
    const uint64_t group = quantization_.group == 0 ? in : quantization_.group, groups = div_up(in, group);
    FolderMatrix out{base + "weight", from.where(), awq ? "AWQ int4" : "GPTQ int4", {}};
    out.tensor.shape = {outputs, in};
    const FolderTensor& zeros = need(from, base + "qzeros", "I32", {groups, outputs / 8});
    // The middle of a symmetric grid is 8. Some writers store it whole in files that call themselves "gptq", the
    // version that stores 7: what is there decides.
    const auto whole = [&] {
      return quantization_.symmetric && std::all_of(zeros.entry.data.begin(), zeros.entry.data.end(),
                                                    [](std::byte pair) { return pair == std::byte{0x88}; });
    };
    out.tensor.format = make_packed_int4({awq, quantization_.zeros_minus_one && !whole(), groups});
    out.tensor.format->check_shape(out.tensor.shape, from.where());
    const FolderTensor& scales = need(from, base + "scales", "F16", {groups, outputs});
    auto owned = std::make_shared<Owned>();
    owned->files = {from.file, zeros.file, scales.file};
    owned->integers.resize(in);
    const FolderTensor* order = awq ? nullptr : find(base + "g_idx");
    if (order) {
      need(from, base + "g_idx", "I32", {in});
      std::memcpy(owned->integers.data(), order->entry.data.data(), order->entry.data.size());
      for (const int32_t index : owned->integers)
        if (index < 0 || static_cast<uint64_t>(index) >= groups)
          refuse("an input has a group that does not exist", order->where(), fmt::format("{} of {}", index, groups));
    } else {
      for (uint64_t i = 0; i < in; ++i) owned->integers[i] = static_cast<int32_t>(i / group);
    }
    out.tensor.parts = {from.entry.data, zeros.entry.data, scales.entry.data,
                        std::as_bytes(std::span(owned->integers))};
    out.tensor.owner = std::move(owned);
    return out;
  }

  const std::vector<FolderTensor>& tensors_;
  Quantization quantization_;
  std::unordered_map<std::string, const FolderTensor*> by_name_;
  std::set<const FolderTensor*> used_;
};

}  // namespace

std::vector<FolderMatrix> folder_matrices(const std::vector<FolderTensor>& tensors, const json& config,
                                          const std::string& config_where) {
  return FolderReader(tensors, read_quantization(config, config_where)).read();
}

}  // namespace whit
