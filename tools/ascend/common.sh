# What the scripts of this folder share; each of them is one call of `run_ascend`.
# They build a command of main.py, run it, and print the same closing lines as Ascend's ModelZoo scripts.
# shellcheck shell=bash
set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
PYTHON=${PYTHON:-python3}
NAME=$(basename "$0" .sh)

fail() {
    echo "error: $*" >&2
    exit 2
}

usage() {
    cat <<END
usage: bash tools/ascend/$NAME.sh --data_path=DIR [parameters] [-- arguments of main.py]

  --data_path=DIR      the folder of Kinetics/kinetics-skeleton, or that folder itself
  --config=FILE        default configs/recognition/stgcn/stgcn_kinetics.yaml
  --test_path_dir=DIR  where weights and logs go; default output/ascend/$NAME
  --use_gpu_npu=KIND   npu, gpu or cpu; default: what this host has
  --device=IDS         card ids, for example 3 or 0,1,2,3
END
    case $1 in
        eval) echo "  --weights=FILE       the checkpoint; default the best one of train_full_1p.sh" ;;
        *) echo "  --lr=RATE            the highest learning rate of the config's schedule
  --train_epochs=N     default $([[ $1 == full ]] && echo "the config's epochs" || echo 2)
  --weights=FILE       a checkpoint to start from" ;;
    esac
    if [[ $2 -gt 1 ]]; then
        echo "  --nproc=N            N devices instead of $2; on a CPU N processes, for trials"
    fi
    echo
    echo "On a GPU or NPU training is in mixed precision, level O2; on a CPU in float32 (Paddle has no other there)."
}

# parse_arguments TASK CARDS "$@": sets the variables below, and `rest` to what follows --.
parse_arguments() {
    local task=$1 cards=$2 known name value
    shift 2
    data_path="" config=$ROOT/configs/recognition/stgcn/stgcn_kinetics.yaml weights="" output="output/ascend/$NAME"
    kind="" devices="" lr="" epochs="" nproc="" rest=()
    known="data_path config test_path_dir use_gpu_npu device weights"
    [[ $task == eval ]] || known+=" lr train_epochs"
    [[ $cards -eq 1 ]] || known+=" nproc"
    while [[ $# -gt 0 ]]; do
        case $1 in
            -h | --help) usage "$task" "$cards"; exit 0 ;;
            --) shift; rest=("$@"); break ;;
            --*=*) name=${1%%=*} value=${1#*=}; shift ;;
            --*)
                [[ $# -gt 1 ]] || fail "$1 needs a value"
                name=$1 value=$2
                shift 2
                ;;
            *) fail "found '$1', expected --name=value; bash $0 --help shows the parameters" ;;
        esac
        [[ " $known " == *" ${name#--} "* ]] || fail "unknown parameter $name; known: ${known// /, }"
        [[ -n $value ]] || fail "$name needs a value"
        case $name in
            --data_path) data_path=$value ;;
            --config) config=$value ;;
            --weights) weights=$value ;;
            --test_path_dir) output=$value ;;
            --use_gpu_npu) kind=$value ;;
            --device) devices=${value// /} ;;
            --lr) lr=$value ;;
            --train_epochs) epochs=$value ;;
            --nproc) nproc=$value ;;
        esac
    done
    [[ -n $data_path ]] || fail "--data_path=DIR is required: the folder with the data set"
    [[ -d $data_path ]] || fail "--data_path: folder not found: $data_path"
    [[ ${kind:-cpu} =~ ^(npu|gpu|cpu)$ ]] || fail "--use_gpu_npu: found $kind, expected npu, gpu or cpu"
    [[ ${epochs:-1} =~ ^[1-9][0-9]*$ ]] || fail "--train_epochs: found $epochs, expected a whole number from 1"
    [[ ${nproc:-1} =~ ^[1-9][0-9]*$ ]] || fail "--nproc: found $nproc, expected a whole number from 1"
    [[ ${devices:-0} =~ ^[0-9]+(,[0-9]+)*$ ]] || fail "--device: found $devices, expected card ids such as 0,1"
    [[ -z $weights || -f $weights ]] || fail "--weights: file not found: $weights"
}

# find_data SPLIT…: the folder under data_path that holds every file of these splits.
find_data() {
    local folder split file
    for folder in "$data_path/Kinetics/kinetics-skeleton" "$data_path/kinetics-skeleton" "$data_path"; do
        if [[ -f $folder/$1_data.npy ]]; then
            for split in "$@"; do
                for file in "$folder/${split}_data.npy" "$folder/${split}_label.pkl"; do
                    [[ -f $file ]] || fail "--data_path: file not found: $file"
                done
            done
            data=$folder
            return
        fi
    done
    fail "--data_path: $1_data.npy is neither in $data_path nor in its Kinetics/kinetics-skeleton or kinetics-skeleton"
}

# choose_devices CARDS: sets kind and count, and devices if cards are used; never uses another kind than the requested one.
choose_devices() {
    local there name number
    declare -A found=([cpu]=0)
    there=$("$PYTHON" "$ROOT/tools/ascend/ask.py" devices) || fail "$PYTHON cannot list the devices"
    while read -r name number; do
        found[$name]=$number
        [[ -n $kind || $number -eq 0 ]] || kind=$name
    done <<<"$there"
    kind=${kind:-cpu}
    count=${nproc:-$1}
    if [[ $kind == cpu ]]; then
        [[ -z $devices ]] || fail "--device: this host has no cards, only a CPU"
        [[ $count -eq 1 || -n $nproc ]] ||
            fail "expected $1 devices, found only a CPU; try it with two processes: --nproc=2"
        return
    fi
    [[ ${found[$kind]:-0} -gt 0 ]] || fail "--use_gpu_npu=$kind: this paddle finds no ${kind^^}"
    if [[ -z $devices ]]; then
        [[ $count -le ${found[$kind]} ]] ||
            fail "expected $count devices, found ${found[$kind]} ${kind^^}s; use them with --nproc=${found[$kind]}"
        devices=$(seq -s, 0 $((count - 1)))
    fi
    [[ $(tr ',' '\n' <<<"$devices" | sort -u | wc -l) -eq $count ]] ||
        fail "--device: found $devices, expected $count different card ids"
}

# override KEY VALUE: an -o with a string value that may have any characters.
override() {
    arguments+=(-o "$1='${2//\'/\'\'}'")
}

use_data() {
    local part=$1 files=$2
    override "DATASET.$part.file_path" "$data/${files}_data.npy"
    override "DATASET.$part.label_path" "$data/${files}_label.pkl"
}

# start: main.py with the arguments, in one process or under the launcher.
start() {
    local call=("$PYTHON" "$ROOT/main.py") cores
    if [[ $kind == cpu && -z ${OMP_NUM_THREADS:-} ]]; then
        cores=$("$PYTHON" -c 'import os; print(len(os.sched_getaffinity(0)))')
        export OMP_NUM_THREADS=$((cores > count ? cores / count : 1))
    fi
    if [[ $count -gt 1 ]]; then
        call=("$PYTHON" -m paddle.distributed.launch --log_dir "$output/log" --log_overwrite True)
        if [[ $kind == cpu ]]; then
            export PADDLE_DISTRI_BACKEND=gloo
            call+=(--nproc_per_node "$count")
        else
            call+=(--devices "$devices")
        fi
        call+=("$ROOT/main.py")
    elif [[ $kind != cpu ]]; then
        export "FLAGS_selected_${kind}s=$devices"
    fi
    "${call[@]}" "${arguments[@]}" ${rest[@]+"${rest[@]}"}
}

# last_number PATTERN FILE: the number after the last match, or nothing.
last_number() {
    sed -nE "s/.*$1([0-9.]+(e-[0-9]+)?).*/\1/p" "$2" | tail -n 1
}

percent() {
    awk -v share="$1" 'BEGIN { printf "%.2f", 100 * share }'
}

# run_ascend TASK CARDS "$@". TASK: full (accuracy), performance (speed) or eval.
run_ascend() {
    local task=$1 cards=$2 begin log
    shift 2
    parse_arguments "$task" "$cards" "$@"
    [[ -f $config || ! -f $ROOT/$config ]] || config=$ROOT/$config
    [[ -f $config ]] || fail "--config: file not found: $config"
    arguments=(-c "$config")
    case $task in
        full) find_data train val; use_data train train; use_data valid val; arguments+=(--validate) ;;
        performance) find_data train; use_data train train; epochs=${epochs:-2} ;;
        eval) find_data val; use_data test val ;;
    esac
    if [[ $task == eval && -z $weights ]]; then
        local best
        for best in output/ascend/train_full_1p/*_best.pdparams; do
            [[ ! -f $best ]] || weights=$best
        done
        [[ -n $weights ]] || fail "--weights=FILE is required: there is no checkpoint of train_full_1p.sh"
    fi
    choose_devices "$cards"
    case $kind in
        cpu) arguments+=(-o use_gpu=False -o use_npu=False) ;;
        npu) arguments+=(-o use_gpu=False -o use_npu=True) ;;
        gpu) arguments+=(-o use_gpu=True -o use_npu=False) ;;
    esac
    if [[ -n $lr ]]; then
        local rate
        rate=$("$PYTHON" "$ROOT/tools/ascend/ask.py" rate "$config" "$lr") || exit 2
        arguments+=(-o "$rate")
    fi
    [[ -z $epochs ]] || arguments+=(-o "epochs=$epochs")
    [[ -z $weights ]] || arguments+=(-w "$weights")
    if [[ $task == eval ]]; then
        arguments+=(--test --out "$output/results.json")
    else
        override output_dir "$output"
        if [[ $kind == cpu ]]; then
            echo "On a CPU Paddle has no mixed precision: training is in float32"
        else
            arguments+=(--amp --amp_level O2)
        fi
    fi
    mkdir -p "$output" || fail "--test_path_dir: cannot create $output"
    log=$output/$NAME.log
    begin=$SECONDS
    local status=0
    start 2>&1 | tee "$log" || status=$?
    [[ $status -eq 0 ]] || { echo "error: $NAME failed with status $status; its output is in $log" >&2; exit "$status"; }
    report "$task" "$log" $((SECONDS - begin))
}

report() {
    local task=$1 log=$2 seconds=$3 value
    echo "------------------ $NAME, $count x $kind ------------------"
    if [[ $task == eval ]]; then
        value=$(last_number 'avg_acc1= ' "$log")
        [[ -n $value ]] || fail "no accuracy in $log"
        echo "Final Eval Accuracy : $(percent "$value")"
        echo "E2E Evaluation Duration sec : $seconds"
        return
    fi
    value=$(last_number 'run FPS: ' "$log")
    [[ -n $value ]] || fail "no FPS in $log"
    echo "Final Performance images/sec : $value"
    if [[ $task == full ]]; then
        value=$(last_number 'best model \(top1 acc\)' "$log")
        [[ -n $value ]] || fail "no accuracy in $log"
        echo "Final Train Accuracy : $(percent "$value")"
    fi
    echo "E2E Training Duration sec : $seconds"
}
