// What is given in place of a model, and what the message says of it.
#include <gtest/gtest.h>

#include <cstring>

#include "base/error.h"
#include "model/spec/folder_copy.h"
#include "model/spec/model.h"

namespace whit {
namespace {

namespace fs = std::filesystem;
const fs::path kData = WHIT_TESTS_DIR "/data";
const std::string kPointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4d4d4d\nsize 1046800\n";

class WhatIsThis : public testing::Test {
 protected:
  void SetUp() override {
    path_ = fs::path(testing::TempDir()) / "whit_what_is_this";
    fs::remove_all(path_);
    fs::create_directories(path_);
  }
  void TearDown() override { fs::remove_all(path_); }
  fs::path file(const std::string& name, const std::string& content) const {
    fs::create_directories((path_ / name).parent_path());
    write_file(path_ / name, content, true);
    return path_ / name;
  }
  void empty() const {
    fs::remove_all(path_);
    fs::create_directories(path_);
  }
  // That the error of `path` says each of the words, which the path itself does not.
  static void expect(const fs::path& path, const std::vector<std::string>& words, ErrorKind kind = ErrorKind::input) {
    try {
      load_model(path);
      ADD_FAILURE() << path << " was accepted";
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), kind) << error.what();
      const std::string said = error.message() + " | " + error.found() + " | " + error.hint();
      for (const std::string& word : words) EXPECT_NE(said.find(word), std::string::npos) << word << " in: " << said;
    }
  }
  fs::path path_;
};

TEST_F(WhatIsThis, FilesThatAreSomethingElse) {
  const std::string zip("PK\x03\x04\x14\0\0\0", 8);
  std::string tar(512, '\0');
  tar.replace(257, 5, "ustar");
  for (const auto& [content, words] : std::vector<std::pair<std::string, std::vector<std::string>>>{
           {kPointer, {"Git LFS", "1046800", "git lfs pull"}},
           {"", {"empty"}},
           {"<!DOCTYPE html>\n<html><head><title>Log in</title>", {"HTML", "login"}},
           {"\n  <html lang=\"en\">", {"HTML"}},
           {R"({"error":"Repository not found"})", {"error message", "Repository not found"}},
           {R"({"a": 1})", {"JSON"}},
           {"Access to model x is restricted.", {"text", "Access to model"}},
           {"\x1f\x8b\x08 gz", {"gzip"}},
           {zip + "archive/data.pkl", {"PyTorch", "safetensors"}},
           {zip + "readme.txt", {"zip"}},
           {std::string("\x80\x02\x8a\x0a", 4), {"PyTorch"}},
           {tar, {"tar"}},
           {std::string("tjgg\3\0\0\0", 8), {"before GGUF"}},
           {"\x89HDF\r\n\x1a\n", {"HDF5"}},
           {"\x89PNG\r\n\x1a\n", {"PNG"}},
           {"\xff\xd8\xff\xe0 JFIF", {"JPEG"}},
           {"PAR1 columns", {"Parquet"}},
           {"%PDF-1.7", {"PDF"}},
           {"\x93NUMPY\x01", {"NumPy"}},
           {"MZ\x90", {"Windows"}},
           {"SQLite format 3", {"SQLite"}},
           {"\x7f"
            "ELF program",
            {"ELF"}},
           {"<?xml version=\"1.0\"?><Error>", {"XML", "GGUF"}},
           {"<?xml version=\"1.0\"?><html>", {"HTML"}},
           {"\xef\xbb\xbfGGUF", {"byte order mark", "three bytes"}},
           {std::string(5000, '\0'), {"zeros", "again"}},
           {std::string("\x08\x07\x12\x07pytorch", 11), {"ONNX"}}})
    expect(file("model.gguf", content), words);
  expect(file("model.gguf.part", "GGUF and more"), {"not finished"});
  expect(file("model.onnx", std::string("\x08\x07\x12\x00", 4)), {"ONNX"});
  expect(kData / "llama_gqa/model.safetensors", {"weights alone", (kData / "llama_gqa").string()});
  expect(kData / "llama_gqa/config.json", {"JSON", (kData / "llama_gqa").string()});
  fs::copy(kData / "llama_gqa/model.safetensors", path_ / "x.safetensors");
  expect(path_ / "x.safetensors", {"weights alone", "config.json"});
}

TEST_F(WhatIsThis, PathsThatAreNotThere) {
  expect("meta-llama/Llama-3.2-1B", {"hub", "hf download meta-llama/Llama-3.2-1B"}, ErrorKind::io);
  expect("https://huggingface.co/a/b", {"address"}, ErrorKind::io);
  expect(path_ / "nothing", {"no such file"}, ErrorKind::io);
  file("model.gguf", "GGUF");
  expect(path_ / "model", {"model.gguf?"}, ErrorKind::io);
}

TEST_F(WhatIsThis, FoldersWithoutAModel) {
  expect(path_, {"empty"}, ErrorKind::io);
  file("adapter_config.json", R"({"peft_type": "LORA", "base_model_name_or_path": "some/base"})");
  file("adapter_model.safetensors", "x");
  expect(path_, {"adapter", "some/base", "merge"}, ErrorKind::io);
  empty();
  const std::string one = file("a.Q4_0.gguf", "GGUF").string();
  expect(path_, {"GGUF file", one}, ErrorKind::io);
  file("config.json", "{}");
  expect(path_, {"GGUF file", one}, ErrorKind::io);
  file("b.Q8_0.gguf", "GGUF");
  expect(path_, {"2 GGUF files", "a.Q4_0.gguf, b.Q8_0.gguf"}, ErrorKind::io);
  file("a-00001-of-00002.gguf", "GGUF");
  expect(path_, {"3 GGUF files", (path_ / "a-00001-of-00002.gguf").string()}, ErrorKind::io);
  for (const auto& [files, words] : std::vector<std::pair<std::vector<const char*>, std::vector<std::string>>>{
           {{"config.json", "pytorch_model.bin"}, {"PyTorch", "pytorch_model.bin", "safetensors"}},
           {{"params.json", "consolidated.00.pth", "tokenizer.model"}, {"consolidated", "Hugging Face version"}},
           {{"model_index.json", "unet/x"}, {"diffusers"}},
           {{"config.json", "model.onnx"}, {"model.onnx"}},
           {{"config.json", "weights.npz"}, {"weights.npz"}},
           {{"tokenizer.json", "tokenizer_config.json"}, {"tokenizer alone"}},
           {{"config.json", "model-00001-of-00002.safetensors"},
            {"model-00001-of-00002.safetensors", "model.safetensors"}},
           {{"config.json", "a-00001-of-00002.safetensors", "a-00002-of-00002.safetensors"}, {"index"}},
           {{"config.json", "model.safetensors.incomplete"}, {"not finished", "incomplete"}},
           {{"config.json", ".cache/huggingface/download/ab.incomplete"}, {"not finished"}},
           {{"model.safetensors"}, {"no config.json"}},
           {{"models--a--b/snapshots/12/config.json"}, {"models--a--b/snapshots/12"}},
           {{"notes.txt", "pictures/x.png"}, {"no config.json", "notes.txt, pictures/"}}}) {
    empty();
    for (const char* name : files) file(name, "x");
    expect(path_, words, ErrorKind::io);
  }
}

// The length of a header may begin as a pickle (80 02) or a gzip archive (1f 8b 08) does.
TEST_F(WhatIsThis, ALengthIsNoMark) {
  const FolderCopy folder("llama_gqa");
  const std::string kept = read_file(folder.path / "model.safetensors");
  uint64_t header = 0;
  std::memcpy(&header, kept.data(), 8);
  for (const uint64_t length : {uint64_t{0x10280}, uint64_t{0x88b1f}}) {
    ASSERT_LT(header, length);
    std::string file(8, '\0');
    std::memcpy(file.data(), &length, 8);
    file += kept.substr(8, header) + std::string(length - header, ' ') + kept.substr(8 + header);
    write_file(folder.path / "model.safetensors", file, true);
    EXPECT_EQ(load_model(folder.path)->spec.layers, load_model(kData / "llama_gqa")->spec.layers);
  }
}

TEST_F(WhatIsThis, FilesOfAFolder) {
  const FolderCopy folder("llama_gqa");
  for (const char* name : {"config.json", "model.safetensors", "tokenizer.json"}) {
    const std::string kept = read_file(folder.path / name);
    write_file(folder.path / name, kPointer, true);
    expect(folder.path, {"Git LFS"});
    write_file(folder.path / name, "\xef\xbb\xbf" + kept, true);
    expect(folder.path, {"byte order mark"});
    write_file(folder.path / name, "<html>", true);
    expect(folder.path, {"HTML"});
    write_file(folder.path / name, kept, true);
  }
  write_file(folder.path / "model.safetensors.index.json",
             R"({"weight_map": {"a": "x-1.safetensors", "b": "x-2.safetensors"}})", false);
  EXPECT_EQ(load_model(folder.path)->notes.size(), 1u);  // of two places the whole file is read
  fs::rename(folder.path / "model.safetensors", folder.path / "x-1.safetensors");
  expect(folder.path, {"1 of 2", "x-2.safetensors"}, ErrorKind::io);
  write_file(folder.path / "model.safetensors.index.json", kPointer, true);
  expect(folder.path, {"Git LFS"});
  fs::remove(folder.path / "model.safetensors.index.json");
  fs::rename(folder.path / "x-1.safetensors", folder.path / "model.safetensors");
  write_file(folder.path / "adapter_config.json", "{}", false);
  EXPECT_EQ(load_model(folder.path)->notes.size(), 1u);
  folder.config({{"quantization", {{"group_size", 64}, {"bits", 4}}}});
  expect(folder.path, {"MLX"});
}

}  // namespace
}  // namespace whit
