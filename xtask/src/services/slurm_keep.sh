#!/bin/sh
# Keeps the daemons of one Slurm running until it is told to end: one that dies is started again, as an administrator's
# supervisor would do, but not while a file of its name lies in the folder `hold`.
#
#   slurm_keep.sh ROOT NODES
root=$1
nodes=$2
conf=$root/etc/slurm.conf
export SLURM_CONF="$conf"

keep() {
    name=$1
    shift
    while [ ! -e "$root/ending" ]; do
        if [ -e "$root/hold/$name" ]; then
            sleep 0.1
            continue
        fi
        "$@" >>"$root/log/$name.out" 2>&1 &
        echo $! >"$root/run/$name.pid"
        wait $!
        rm -f "$root/run/$name.pid"
        sleep 0.2
    done
}

end() {
    # Told once is enough; whoever tells again must not begin this anew.
    trap '' TERM INT
    # Jobs first: without daemons nobody would end them.
    timeout 5 scancel --user "$(id -un)" >/dev/null 2>&1
    sleep 1
    : >"$root/ending"
    for file in "$root"/run/*.pid; do
        [ -s "$file" ] && kill "$(cat "$file")" 2>/dev/null
    done
    wait
    exit 0
}

# The daemons must not get what is meant for this shell: they are asked to end in order.
keep munged munged --foreground --force --key-file="$root/etc/munge.key" --socket="$root/munge/socket" \
    --pid-file="$root/munge/munged.pid" --seed-file="$root/munge/seed" --log-file="$root/log/munged.log" &
while [ ! -S "$root/munge/socket" ]; do sleep 0.05; done
keep slurmctld slurmctld -D -f "$conf" &
node=1
while [ "$node" -le "$nodes" ]; do
    keep "slurmd.n$node" slurmd -D -N "n$node" -f "$conf" &
    node=$((node + 1))
done
trap end TERM INT
while :; do wait; sleep 1; done
