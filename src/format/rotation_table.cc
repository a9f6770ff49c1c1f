#include "format/rotation_table.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/json.h"
#include "format/container_keys.h"

namespace whit {
namespace {

using Parsed = nlohmann::json;

[[noreturn]] void bad_table(const std::string& what, const std::string& found) {
  throw Error(ErrorKind::input, what, std::string(kRotationsKey), found.substr(0, 200));
}

[[noreturn]] void bad_unit(const std::string& what, const std::string& unit, const Parsed& found) {
  throw Error(ErrorKind::input, what, fmt::format("{}: {}", kUnitsKey, unit.substr(0, 100)),
              found.dump().substr(0, 200));
}

uint64_t number(const Parsed& entry, const char* key) {
  const auto found = entry.is_object() ? entry.find(key) : entry.end();
  if (found == entry.end() || !found->is_number_unsigned()) bad_table(fmt::format("a rotation lacks {}", key), "");
  return found->get<uint64_t>();
}

// |Q Q^T - I| of what F32 keeps of an orthogonal Q: m products of entries up to 1, each off by 2^-24 of its size.
bool is_orthogonal(const std::vector<float>& q, uint64_t m) {
  for (uint64_t i = 0; i < m; ++i)
    for (uint64_t j = 0; j <= i; ++j) {
      double dot = 0;
      for (uint64_t c = 0; c < m; ++c) dot += static_cast<double>(q[i * m + c]) * q[j * m + c];
      if (!(std::abs(dot - (i == j ? 1.0 : 0.0)) < 1e-5)) return false;
    }
  return true;
}

}  // namespace

void RotationTable::add(const RotationPtr& rotation) {
  if (std::any_of(rotations_.begin(), rotations_.end(), [&](const auto& known) { return *known == *rotation; })) return;
  rotations_.push_back(rotation);
  const std::vector<float>& factor = rotation->factor();
  if (!factor.empty() &&
      std::none_of(factors_.begin(), factors_.end(), [&](const auto* known) { return *known == factor; }))
    factors_.push_back(&factor);
}

void RotationTable::add(const UnitRotation& rotation) {
  if (rotation.inputs) add(rotation.inputs);
  for (const OutputRotation& output : rotation.outputs) add(output.rotation);
}

void RotationTable::set_stream(const RotationPtr& rotation) {
  stream_ = rotation;
  if (rotation) add(rotation);
}

size_t RotationTable::index_of(const Rotation& rotation) const {
  const auto found =
      std::find_if(rotations_.begin(), rotations_.end(), [&](const auto& known) { return *known == rotation; });
  WHIT_CHECK(found != rotations_.end());
  return static_cast<size_t>(found - rotations_.begin());
}

Json RotationTable::unit_json(const UnitRotation& rotation) const {
  Json json = Json::object();
  if (rotation.inputs) json["inputs"] = index_of(*rotation.inputs);
  for (const OutputRotation& output : rotation.outputs)
    json["outputs"].push_back({output.begin, index_of(*output.rotation)});
  return json;
}

std::string RotationTable::text() const {
  Json json = {{"factors", Json::array()}, {"rotations", Json::array()}};
  for (const auto* factor : factors_) json["factors"].push_back(std::lround(std::sqrt(factor->size())));
  for (const RotationPtr& rotation : rotations_) {
    Json entry = {{"size", rotation->size()}, {"seed", rotation->seed()}};
    const auto factor =
        std::find_if(factors_.begin(), factors_.end(), [&](const auto* known) { return *known == rotation->factor(); });
    if (factor != factors_.end()) entry["factor"] = factor - factors_.begin();
    json["rotations"].push_back(std::move(entry));
  }
  if (stream_) json["stream"] = index_of(*stream_);
  return json.dump();
}

std::vector<float> RotationTable::factors() const {
  std::vector<float> all;
  for (const auto* factor : factors_) all.insert(all.end(), factor->begin(), factor->end());
  return all;
}

RotationReader::RotationReader(const GgufFile& gguf) {
  if (!gguf.metadata.has(kRotationsKey)) return;
  const Parsed table = parse_json(gguf.metadata.string(kRotationsKey), std::string(kRotationsKey), 4);
  const auto array = [&](const char* key) -> const Parsed& {
    const auto found = table.is_object() ? table.find(key) : table.end();
    if (found == table.end() || !found->is_array()) bad_table(fmt::format("the table lacks {}", key), "");
    return *found;
  };
  uint64_t wanted = 0;
  for (const Parsed& size : array("factors")) {
    if (!size.is_number_unsigned() || size.get<uint64_t>() < 3 || size.get<uint64_t>() > kLargestFactor ||
        size.get<uint64_t>() % 2 == 0)
      bad_table("a factor of a rotation has a size that is not used", size.dump());
    wanted += size.get<uint64_t>() * size.get<uint64_t>();
  }
  const GgufTensor* tensor = gguf.find(kFactorsTensor);
  if (wanted > 0 &&
      (!tensor || tensor->type != static_cast<int32_t>(GgmlType::f32) || tensor->data.size() != wanted * sizeof(float)))
    bad_table("the factors of the rotations are missing or of another size", fmt::format("{} floats wanted", wanted));
  uint64_t at = 0;
  for (const Parsed& size : array("factors")) {
    const auto m = size.get<uint64_t>();
    std::vector<float> factor(m * m);
    std::memcpy(factor.data(), tensor->data.data() + at * sizeof(float), factor.size() * sizeof(float));
    if (!is_orthogonal(factor, m)) bad_table("a factor of a rotation is not orthogonal", fmt::format("{} x {}", m, m));
    at += m * m;
    factors_.push_back(std::move(factor));
  }
  for (const Parsed& json : array("rotations")) {
    Entry entry{number(json, "size"), number(json, "seed"), factors_.size(), nullptr};
    const uint64_t m = odd_factor(entry.size);
    if (entry.size == 0 || entry.size > kLargestRotation || m > kLargestFactor)
      bad_table("a rotation has a size that is not used", json.dump());
    if (m > 1) entry.factor = number(json, "factor");
    if (m > 1 && (entry.factor >= factors_.size() || factors_[entry.factor].size() != m * m))
      bad_table("a rotation has a factor of another size", json.dump());
    entries_.push_back(std::move(entry));
  }
  if (const auto stream = table.find("stream"); stream != table.end()) stream_ = *stream;
}

RotationPtr RotationReader::stream() {
  return stream_.is_null() ? nullptr : rotation(stream_, "the residual stream");
}

const RotationPtr& RotationReader::rotation(const Parsed& index, const std::string& name) {
  if (!index.is_number_unsigned() || index.get<uint64_t>() >= entries_.size())
    bad_unit("a unit has a rotation that is not in the table", name, index);
  Entry& entry = entries_[index.get<uint64_t>()];
  if (!entry.made)
    entry.made = std::make_shared<const Rotation>(
        entry.size, entry.seed, entry.factor < factors_.size() ? factors_[entry.factor] : std::vector<float>());
  return entry.made;
}

UnitRotation RotationReader::unit(const Parsed& unit, const StoredTensor& tensor) {
  UnitRotation rotation;
  const auto found = unit.find("rotation");
  if (found == unit.end()) return rotation;
  if (!found->is_object()) bad_unit("a unit's rotation cannot be read", tensor.name, *found);
  // A size is compared with the unit, which was checked against the file, before its signs are made.
  const auto sized = [&](const Parsed& index, uint64_t least, uint64_t most) {
    const bool known = index.is_number_unsigned() && index.get<uint64_t>() < entries_.size();
    const uint64_t size = known ? entries_[index.get<uint64_t>()].size : 0;
    if (known && (size < least || size > most)) bad_unit("a unit has a rotation of another size", tensor.name, *found);
    return this->rotation(index, tensor.name);
  };
  if (const auto inputs = found->find("inputs"); inputs != found->end())
    rotation.inputs = sized(*inputs, tensor.shape.cols, tensor.shape.cols);
  const auto outputs = found->find("outputs");
  if (outputs == found->end()) return rotation;
  if (!outputs->is_array()) bad_unit("a unit's rotation cannot be read", tensor.name, *outputs);
  uint64_t end = 0;
  for (const Parsed& output : *outputs) {
    if (!output.is_array() || output.size() != 2 || !output[0].is_number_unsigned() ||
        output[0].get<uint64_t>() < end || output[0].get<uint64_t>() >= tensor.shape.rows)
      bad_unit("a rotation of outputs has no place in its unit", tensor.name, output);
    const auto begin = output[0].get<uint64_t>();
    uint64_t limit = tensor.shape.rows;  // the end of the member that it begins in
    for (const Member& member : tensor.members)
      if (begin >= member.begin && begin < member.begin + member.count) limit = member.begin + member.count;
    rotation.outputs.push_back({begin, sized(output[1], 1, limit - begin)});
    end = rotation.outputs.back().end();
  }
  return rotation;
}

}  // namespace whit
