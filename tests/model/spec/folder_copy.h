// A folder of tests/data with something changed, in a temporary place.
#pragma once

#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/file.h"

namespace whit {

struct RawTensor {
  std::string dtype, bytes;
  std::vector<uint64_t> shape;
};

class FolderCopy {
 public:
  explicit FolderCopy(const std::string& fixture)
      : path(std::filesystem::path(testing::TempDir()) /
             ("whit_" + fixture + "_" + testing::UnitTest::GetInstance()->current_test_info()->name())) {
    std::filesystem::remove_all(path);
    std::filesystem::copy(std::filesystem::path(WHIT_TESTS_DIR) / "data" / fixture, path);
  }
  ~FolderCopy() { std::filesystem::remove_all(path); }

  // Keys of config.json; "DELETE" takes one out.
  void config(const nlohmann::json& changes) const {
    nlohmann::json json = nlohmann::json::parse(read_file(path / "config.json"));
    for (const auto& [key, value] : changes.items()) {
      if (value == "DELETE")
        json.erase(key);
      else
        json[key] = value;
    }
    write_file(path / "config.json", json.dump(), true);
  }
  std::map<std::string, RawTensor> tensors() const {
    const std::string file = read_file(path / "model.safetensors");
    uint64_t size = 0;
    std::memcpy(&size, file.data(), 8);
    std::map<std::string, RawTensor> all;
    const nlohmann::json header = nlohmann::json::parse(file.substr(8, size));
    for (const auto& [name, info] : header.items()) {
      if (name == "__metadata__") continue;
      const size_t begin = info["data_offsets"][0], end = info["data_offsets"][1];
      all[name] = {info["dtype"], file.substr(8 + size + begin, end - begin),
                   info["shape"].get<std::vector<uint64_t>>()};
    }
    return all;
  }
  void tensors(const std::map<std::string, RawTensor>& all) const {
    nlohmann::json header = nlohmann::json::object();
    std::string data;
    for (const auto& [name, tensor] : all) {
      header[name] = {{"dtype", tensor.dtype},
                      {"shape", tensor.shape},
                      {"data_offsets", {data.size(), data.size() + tensor.bytes.size()}}};
      data += tensor.bytes;
    }
    std::string text = header.dump();
    text.resize((text.size() + 7) / 8 * 8, ' ');
    const uint64_t size = text.size();
    write_file(path / "model.safetensors", std::string(reinterpret_cast<const char*>(&size), 8) + text + data, true);
  }

  const std::filesystem::path path;
};

}  // namespace whit
