# Builds the walls around a build with util-linux alone, inside fresh mount, network, process, IPC, host-name and cgroup namespaces, and a
# user namespace where it is not run by root. COMMAND makes the build another user, without any right over these walls.
#
# PLACE SCRATCH NUMBER (FROM TO)… COMMAND…: the folder with `root`, an empty one for the new root, and `build`, the build's; the one with
# `tmp` and `shm`; the number of things to be read, each from where it is to where it shall be; what to run.
root=$1/root build=$1/build scratch=$2 number=$3
shift 3
# People who are not root seldom have the folders of `pivot_root` in it.
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin

mount -t tmpfs -o mode=0755,size=16m,nosuid,nodev tmpfs "$root"
cd "$root"
mkdir dev proc tmp build old
mount -t proc -o nosuid,nodev,noexec proc proc
mount --bind "$scratch/tmp" tmp
for device in null zero full random urandom; do
    : >"dev/$device"
    mount --bind "/dev/$device" "dev/$device"
done
ln -s /proc/self/fd dev/fd
mkdir dev/shm
mount --bind "$scratch/shm" dev/shm

for folder in usr bin sbin lib lib32 lib64 libx32; do
    if [ -L "/$folder" ]; then
        ln -s "$(readlink "/$folder")" "$folder"
    elif [ -d "/$folder" ]; then
        mkdir "$folder"
        mount --rbind "/$folder" "$folder"
    fi
done
while [ "$number" -gt 0 ]; do
    if [ -d "$1" ]; then
        mkdir -p ".$2"
    else
        mkdir -p ".${2%/*}"
        [ -e ".$2" ] || : >".$2"
    fi
    mount --rbind "$1" ".$2"
    number=$((number - 1))
    shift 2
done
mount --bind "$build" build
hostname build

# What is not mounted below the new root is gone from here on.
pivot_root . old
cd /
umount -l /old
rmdir /old

# All that is mounted, whatever lay below what was asked for, but for what the build writes to. Spaces are written in octal there.
while read -r _ _ _ _ at _; do
    case $at in
    *\\*) at=$(printf %b "$(printf %s "$at" | sed 's/\\/\\0/g')") ;;
    esac
    case $at in
    / | /build | /proc | /tmp | /dev/shm | /dev/null | /dev/zero | /dev/full | /dev/random | /dev/urandom) ;;
    *) mount -o remount,bind,ro "$at" ;;
    esac
done </proc/self/mountinfo
mount -o remount,bind,ro /

# This shell stays, as the first process of the namespace: it ends when the one outside does, and with it all others. The build itself
# could see to it that it does not.
status=0
"$@" || status=$?
exit "$status"
