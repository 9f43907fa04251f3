# Builds the walls around a build with util-linux alone, inside fresh user, mount, network, process, IPC, host-name and cgroup
# namespaces. Ends with the build in place of this shell, as another user without any right over these walls.
#
# ROOT BUILD NUMBER (FROM TO)… COMMAND…: an empty folder for the new root; the build's folder; so many things to be read, each from where
# it is to where it shall be; what to run.
root=$1 build=$2 number=$3
shift 3
# People who are not root seldom have the folders of `pivot_root` in it.
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin

mount -t tmpfs -o mode=0755,size=16m,nosuid,nodev tmpfs "$root"
cd "$root"
mkdir dev proc tmp build old
mount -t proc -o nosuid,nodev,noexec proc proc
mount -t tmpfs -o mode=1777,nosuid,nodev tmpfs tmp
for device in null zero full random urandom; do
    : >"dev/$device"
    mount --bind "/dev/$device" "dev/$device"
done
ln -s /proc/self/fd dev/fd

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
    / | /build | /proc | /tmp | /dev/null | /dev/zero | /dev/full | /dev/random | /dev/urandom) ;;
    *) mount -o remount,bind,ro "$at" ;;
    esac
done </proc/self/mountinfo
mount -o remount,bind,ro /

exec setpriv --no-new-privs -- unshare --user --map-user=1000 --map-group=1000 -- "$@"
