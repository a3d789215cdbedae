// Runs the SavedModel of a policy in a loop, and says how many microseconds a call takes.
//
// With the headers and libraries of Python's package tensorflow, in a shell:
//   tf=$(python -c "import tensorflow as tf; print(tf.sysconfig.get_lib())")
//   g++ -O2 -std=c++17 -I$tf/include examples/act.cc -o act $tf/libtensorflow_cc.so.2 \
//     $tf/libtensorflow_framework.so.2 -Wl,-rpath,$tf
//   ./act runs/first/policy 3 1     (observation and action have so many numbers)

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "tensorflow/c/c_api.h"

static TF_Status* status = TF_NewStatus();

static void check() {
  if (TF_GetCode(status) == TF_OK) return;
  std::fprintf(stderr, "Error: %s\n", TF_Message(status));
  std::exit(1);
}

int main(int argc, char** argv) {
  if (argc != 4) {
    std::fprintf(stderr, "Usage: act SAVED_MODEL OBSERVATION_SIZE ACTION_SIZE\n");
    return 1;
  }
  const int observation_size = std::atoi(argv[2]), action_size = std::atoi(argv[3]);
  const char* tags[] = {"serve"};
  TF_Graph* graph = TF_NewGraph();
  TF_Session* session = TF_LoadSessionFromSavedModel(
      TF_NewSessionOptions(), nullptr, argv[1], tags, 1, graph, nullptr, status);
  check();
  // The tensors behind `serving_default`: saved_model_cli show --all --dir SAVED_MODEL
  const TF_Output input = {TF_GraphOperationByName(graph, "serving_default_observation"), 0};
  const TF_Output output = {TF_GraphOperationByName(graph, "StatefulPartitionedCall_2"), 0};
  if (!input.oper || !output.oper) {
    std::fprintf(stderr, "Error: %s has other names\n", argv[1]);
    return 1;
  }
  // The message RunOptions with inter_op_thread_pool = -1: in this thread.
  const char in_this_thread[] = "\x18\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01";
  TF_Buffer* options = TF_NewBufferFromString(in_this_thread, sizeof(in_this_thread) - 1);

  const int64_t shape[] = {1, observation_size};
  TF_Tensor* observation =
      TF_AllocateTensor(TF_FLOAT, shape, 2, observation_size * sizeof(float));
  std::vector<float> action(action_size);
  double least = 1e9;
  for (int step = 0; step < 2000; ++step) {
    float* sensors = static_cast<float*>(TF_TensorData(observation));
    std::fill(sensors, sensors + observation_size, 0.0f);  // read your sensors here
    const auto start = std::chrono::steady_clock::now();
    TF_Tensor* result = nullptr;
    TF_SessionRun(session, options, &input, &observation, 1, &output, &result, 1, nullptr, 0,
                  nullptr, status);
    check();
    const float* numbers = static_cast<float*>(TF_TensorData(result));
    std::copy(numbers, numbers + action_size, action.begin());  // move your motors here
    TF_DeleteTensor(result);
    const std::chrono::duration<double, std::micro> taken =
        std::chrono::steady_clock::now() - start;
    least = std::min(least, taken.count());
  }
  for (float number : action) std::printf("%.6f ", number);
  std::printf("\n%.1f microseconds\n", least);
}
