import importlib.util, random, time, sys
spec=importlib.util.spec_from_file_location("fz","/work/main/tests/test_recipe_fuzz.py"); fz=importlib.util.module_from_spec(spec); spec.loader.exec_module(fz)
def test_big(sample):
    texts=fz._texts(sample); t=sample.with_name("m.yaml"); worst=0; ref=0
    fz.recipe.load(str(sample))
    for m in (fz._mutate_bytes,fz._mutate_tokens,fz._mutate_structure):
        for n in range(3500):
            d=random.Random(f"big/{m.__name__}/{n}"); c=m(texts[d.choice(sorted(texts))],d)
            t0=time.process_time()
            try: a=fz._answer(t,c)
            except fz.InputError: raise
            except Exception as e: print("FAIL", m.__name__, n, repr(e)); __import__("pathlib").Path(f"/tmp/fail_{n}.yaml").write_bytes(c); continue
            dt=time.process_time()-t0; ref+=isinstance(a,fz.InputError)
            if dt>worst: worst=dt; w=(m.__name__,n,str(a)[:200])
    print("WORST",worst,w,"refused",ref)
